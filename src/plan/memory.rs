//! Where each buffer of a plan lies: buffers whose lifetimes do not overlap share memory.

/// A buffer that is first written at one instruction and last read at another (both included).
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub cols: usize,
    pub first: usize,
    pub last: usize,
}

/// A placed buffer. Offset and width count elements per row: in a tile of R rows it is the `R * cols` elements from
/// `R * offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub offset: usize,
    pub cols: usize,
}

/// Places the buffers, widest first, each at the lowest offset that no buffer alive at the same time occupies.
/// Returns the slots and the elements per row that they need together.
pub(super) fn place(buffers: &[Lifetime]) -> (Vec<Slot>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(buffers[i].cols));
    let mut slots = vec![Slot { offset: 0, cols: 0 }; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    for i in order {
        let mut neighbours: Vec<Slot> =
            placed.iter().filter(|&&j| overlap(&buffers[i], &buffers[j])).map(|&j| slots[j]).collect();
        neighbours.sort_by_key(|s| s.offset);
        slots[i] = Slot { offset: lowest_gap(&neighbours, buffers[i].cols), cols: buffers[i].cols };
        placed.push(i);
    }
    let total = slots.iter().map(|s| s.offset + s.cols).max().unwrap_or(0);
    (slots, total)
}

fn overlap(a: &Lifetime, b: &Lifetime) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The lowest offset at which `cols` columns fit between slots sorted by offset.
fn lowest_gap(neighbours: &[Slot], cols: usize) -> usize {
    let mut offset = 0;
    for slot in neighbours {
        if offset + cols <= slot.offset {
            break;
        }
        offset = offset.max(slot.offset + slot.cols);
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::philox;

    #[test]
    fn buffers_alive_together_never_share_memory() {
        for seed in 0..50 {
            let buffers: Vec<Lifetime> = (0..60)
                .map(|i| {
                    let [a, b, c, _] = philox([i, 0, 0, 0], [seed, 1]);
                    let first = a as usize % 40;
                    Lifetime { cols: 1 + c as usize % 20, first, last: first + b as usize % 10 }
                })
                .collect();
            let (slots, total) = place(&buffers);
            let sum: usize = buffers.iter().map(|b| b.cols).sum();
            assert!(total < sum, "reuse saves memory");
            for i in 0..buffers.len() {
                for j in 0..i {
                    let apart = slots[i].offset + slots[i].cols <= slots[j].offset
                        || slots[j].offset + slots[j].cols <= slots[i].offset;
                    assert!(apart || !overlap(&buffers[i], &buffers[j]), "buffers {i} and {j}");
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_slots() {
        let chain: Vec<Lifetime> = (0..10).map(|i| Lifetime { cols: 8, first: i, last: i + 1 }).collect();
        assert_eq!(place(&chain).1, 16);
    }
}
