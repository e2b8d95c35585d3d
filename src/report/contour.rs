//! From draws to regions: a smooth density on a lattice, its highest-density levels, and their
//! contours.
//!
//! Everything here lives in the unit square (or, for a marginal, the unit interval): a panel's
//! lower left corner is (0, 0) and its upper right corner (1, 1). The lattice's outermost nodes lie
//! on the panel's edge. A marginal is a lattice of one row.

use ndarray::{Array2, ArrayView2, Zip, s};
use std::collections::BTreeMap;

/// Shares every draw among the four nodes around it, in proportion to nearness (linear binning).
///
/// Nearest-node counting would move each draw by up to half a cell; this keeps the mean exactly.
/// Draws outside the unit square are left out, so the sum of the result is the mass inside.
pub(super) fn bin((rows, columns): (usize, usize), draws: impl Iterator<Item = ([f64; 2], f64)>) -> Array2<f64> {
    // The node below a coordinate, and how far on the way to the next one it lies.
    let split = |u: f64, nodes: usize| {
        let at = u * (nodes - 1) as f64;
        let node = (at as usize).min(nodes.saturating_sub(2));
        (node, at - node as f64)
    };
    let mut mass = Array2::zeros((rows, columns));
    for ([u, v], weight) in draws {
        if !((0.0..=1.0).contains(&u) && (0.0..=1.0).contains(&v)) {
            continue;
        }
        let ((column, right), (row, up)) = (split(u, columns), split(v, rows));
        for (r, share) in [(row, 1.0 - up), (row + 1, up)] {
            for (c, share) in [(column, (1.0 - right) * share), (column + 1, right * share)] {
                if share > 0.0 {
                    mass[[r, c]] += weight * share;
                }
            }
        }
    }
    mass
}

/// A density on the lattice.
pub(super) struct Density {
    /// Its value at every node: row = second coordinate, column = first.
    pub value: Array2<f64>,
    /// The part of the panel that belongs to each node: a node on the edge has half a cell.
    area: Array2<f64>,
}

impl Density {
    /// Smooths binned draws with a Gaussian kernel of the draws' own shape,
    ///
    /// $$f(i) = \frac{\sum_j K(i-j)\,m_j}{\sum_j K(i-j)\,a_j},$$
    ///
    /// with the nodes' areas $a_j$ below: near an edge they make up for the part of the kernel that
    /// falls outside, and a density cut off by a prior's bound stays flat up to it.
    ///
    /// The kernel's covariance is $h^2 \Sigma$. Scott's rule, $h = n^{-1/(d+4)}$, is best for a
    /// Gaussian and far too wide for separate modes, so $h$ shrinks while that clearly raises the
    /// likelihood each draw has under the density of the *others* (leave-one-out cross-validation).
    pub fn new(mass: &Array2<f64>, effective_draws: f64) -> Self {
        let area = areas(mass.dim());
        let covariance = covariance(mass);
        let dimensions = [mass.nrows(), mass.ncols()].iter().filter(|&&nodes| nodes > 1).count();
        let scott = effective_draws.powf(-1.0 / (dimensions as f64 + 4.0));

        let mut best = (f64::NEG_INFINITY, Array2::zeros(mass.dim()));
        for halvings in 0..20 {
            let h2 = scott * scott * 0.5f64.powi(halvings);
            let [xx, xy, yy] = covariance.map(|c| h2 * c);
            let kernel = [xx + FLOOR, xy, yy + FLOOR];
            let (near, room) = (smooth(mass.view(), kernel), smooth(area.view(), kernel));
            let own = kept(kernel, mass.dim()) / effective_draws;
            // A draw with no neighbour counts as if one other were spread over the whole panel.
            let alone = 1.0 / effective_draws;
            let mut score = 0.0;
            Zip::from(mass).and(&near).and(&room).for_each(|&m, &near, &room| {
                score += m * ((near - own) / room).max(alone).ln();
            });
            if score <= best.0 + WORTH {
                break;
            }
            best = (score, near / room);
            if h2 * covariance[0].max(covariance[2]) < FLOOR {
                break;
            }
        }
        let (_, value) = best;
        let total = (&value * &area).sum();
        let scale = if total > 0.0 { mass.sum() / total } else { 0.0 };
        Self { value: value * scale, area }
    }

    /// The density above which the given part of all mass lies: a highest-density level.
    ///
    /// Nodes are taken from the densest down; at a node's own density half its mass is counted, and
    /// between nodes the level is interpolated. Zero when the panel holds less mass than asked for.
    pub fn level(&self, part: f64) -> f64 {
        let mut nodes: Vec<(f64, f64)> =
            self.value.iter().zip(&self.area).map(|(&value, &area)| (value, value * area)).collect();
        nodes.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut denser = 0.0;
        let mut last = (0.0, nodes.first().map_or(0.0, |node| node.0));
        for (value, mass) in nodes {
            let held = denser + 0.5 * mass;
            if held >= part {
                return last.1 + (value - last.1) * (part - last.0) / (held - last.0);
            }
            last = (held, value);
            denser += mass;
        }
        0.0
    }
}

/// How much a narrower kernel must add to the mean log-likelihood: less is noise, drawn as wiggles.
const WORTH: f64 = 0.01;
/// Below a variance of a quarter cell squared (half a cell's width) the lattice cannot follow.
const FLOOR: f64 = 0.25;

/// The area of every node's cell; the whole panel has area 1.
fn areas((rows, columns): (usize, usize)) -> Array2<f64> {
    let cell = |i: usize, nodes: usize| match nodes {
        1 => 1.0,
        _ if i == 0 || i == nodes - 1 => 0.5 / (nodes - 1) as f64,
        _ => 1.0 / (nodes - 1) as f64,
    };
    Array2::from_shape_fn((rows, columns), |(r, c)| cell(r, rows) * cell(c, columns))
}

/// The variance along columns, the covariance, and the variance along rows of the mass, in cells
/// squared.
fn covariance(mass: &Array2<f64>) -> [f64; 3] {
    let total = mass.sum().max(f64::MIN_POSITIVE);
    let mean = |f: &dyn Fn(f64, f64) -> f64| {
        mass.indexed_iter().map(|((r, c), m)| m * f(c as f64, r as f64)).sum::<f64>() / total
    };
    let (x, y) = (mean(&|x, _| x), mean(&|_, y| y));
    [mean(&|u, _| (u - x).powi(2)), mean(&|u, v| (u - x) * (v - y)), mean(&|_, v| (v - y).powi(2))]
}

/// Blurs with a Gaussian of the given covariance in cells squared; what leaves the lattice is lost.
///
/// A Gaussian is a product, $K(x, y) = g_{xx}(x)\,g_{yy - b\,xy}(y - b x)$ with $b = xy / xx$: one
/// blur along y, then one along the slanted line $y = b x$, linear between its two nearest nodes.
fn smooth(field: ArrayView2<f64>, [xx, xy, yy]: [f64; 3]) -> Array2<f64> {
    if yy > xx {
        // Along the flatter line, which skips no node.
        return smooth(field.t(), [yy, xy, xx]).reversed_axes();
    }
    let slope = xy / xx;
    let mut blurred = Array2::zeros(field.dim());
    for (d, weight) in bell(yy - slope * xy, field.nrows()) {
        add_shifted(&mut blurred, field, (d, 0), weight);
    }
    let mut sum = Array2::zeros(field.dim());
    for (d, weight) in bell(xx, field.ncols()) {
        let rise = slope * d as f64;
        let (below, part) = (rise.floor() as isize, rise - rise.floor());
        add_shifted(&mut sum, blurred.view(), (below, d), weight * (1.0 - part));
        add_shifted(&mut sum, blurred.view(), (below + 1, d), weight * part);
    }
    sum
}

/// The part of a node's mass that [`smooth`] leaves where it was.
fn kept([xx, xy, yy]: [f64; 3], (rows, columns): (usize, usize)) -> f64 {
    if yy > xx {
        return kept([yy, xy, xx], (columns, rows));
    }
    let middle = |bell: Vec<(isize, f64)>| bell[bell.len() / 2].1;
    middle(bell(xx, columns)) * middle(bell(yy - xy * xy / xx, rows))
}

/// A Gaussian's weights at whole distances up to four standard deviations, summing to 1.
fn bell(variance: f64, nodes: usize) -> Vec<(isize, f64)> {
    let reach = ((4.0 * variance.sqrt()).ceil() as isize).min(nodes as isize - 1);
    let weight = |d: isize| (-0.5 * (d * d) as f64 / variance).exp();
    let sum: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach).map(|d| (d, weight(d) / sum)).collect()
}

/// Adds `weight` times the field, moved up and right by the given numbers of nodes.
fn add_shifted(sum: &mut Array2<f64>, field: ArrayView2<f64>, (up, right): (isize, isize), weight: f64) {
    let (rows, columns) = (sum.nrows() as isize, sum.ncols() as isize);
    if weight == 0.0 || up.abs() >= rows || right.abs() >= columns {
        return;
    }
    // The nodes that stay on the lattice: where they come from, and where they go.
    let (from, to) = (|d: isize, n: isize| (-d).max(0)..n - d.max(0), |d: isize, n: isize| d.max(0)..n + d.min(0));
    let part = field.slice_move(s![from(up, rows), from(right, columns)]);
    sum.slice_mut(s![to(up, rows), to(right, columns)]).scaled_add(weight, &part);
}

/// A lattice node, with room for the ring outside the field: (column, row).
type Node = (isize, isize);

/// The closed curves in the unit square where a field crosses `level` (marching squares).
///
/// Each curve runs with the higher side on its left: counter-clockwise around a peak, clockwise
/// around a hollow. Outside the field lies minus infinity, so a region that reaches the edge is
/// closed along it.
pub(super) fn contours(field: ArrayView2<f64>, level: f64) -> Vec<Vec<[f64; 2]>> {
    let (rows, columns) = (field.nrows() as isize, field.ncols() as isize);
    let value = |(c, r): Node| {
        let inside = (0..columns).contains(&c) && (0..rows).contains(&r);
        if inside { field[[r as usize, c as usize]] } else { f64::NEG_INFINITY }
    };

    // Which crossing follows which. A crossing is named by the lattice edge it lies on.
    let mut next = BTreeMap::new();
    for (r, c) in (-1..rows).flat_map(|r| (-1..columns).map(move |c| (r, c))) {
        let corners = [(c, r), (c + 1, r), (c + 1, r + 1), (c, r + 1)]; // counter-clockwise
        let high = corners.map(|corner| value(corner) > level);
        let edge = |k: usize| {
            let (a, b) = (corners[k], corners[(k + 1) % 4]);
            (a.min(b), a.max(b))
        };
        // Around the cell, the high side is left at some edges and entered at as many others. With
        // two of each (a saddle) the value in the middle says whether the two high corners belong
        // together.
        let joined = corners.map(value).iter().sum::<f64>() > 4.0 * level;
        let turn = if joined { 1 } else { 3 };
        for leave in (0..4).filter(|&k| high[k] && !high[(k + 1) % 4]) {
            let mut enter = (leave + turn) % 4;
            while high[enter] || !high[(enter + 1) % 4] {
                enter = (enter + turn) % 4;
            }
            next.insert(edge(leave), edge(enter));
        }
    }

    let unit = |at: f64, nodes: isize| if nodes > 1 { at / (nodes - 1) as f64 } else { 0.5 };
    let crossing = |(a, b): (Node, Node)| {
        let (inner, outer) = if value(a) > level { (a, b) } else { (b, a) };
        let t = (value(inner) - level) / (value(inner) - value(outer)); // 0 beside minus infinity
        let between = |i: isize, o: isize| i as f64 + t * (o - i) as f64;
        [unit(between(inner.0, outer.0), columns), unit(between(inner.1, outer.1), rows)]
    };
    let mut curves = Vec::new();
    while let Some((first, mut edge)) = next.pop_first() {
        let mut curve = vec![crossing(first)];
        while let Some(following) = next.remove(&edge) {
            curve.push(crossing(edge));
            edge = following;
        }
        curves.push(curve);
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    /// A Gaussian of mean ½ on the unit square, evaluated, not sampled.
    fn gaussian(nodes: usize, [xx, xy, yy]: [f64; 3]) -> Density {
        let determinant = xx * yy - xy * xy;
        let value = Array2::from_shape_fn((nodes, nodes), |(r, c)| {
            let at = |i: usize| i as f64 / (nodes - 1) as f64 - 0.5;
            let (x, y) = (at(c), at(r));
            let square = (yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant;
            (-0.5 * square).exp() / (TAU * determinant.sqrt())
        });
        Density { value, area: areas((nodes, nodes)) }
    }

    /// A standard normal pair for every index, by Box and Muller from a golden-ratio sequence.
    fn normal(i: usize, n: usize) -> [f64; 2] {
        let (u, angle) = ((i as f64 + 0.5) / n as f64, TAU * (i as f64 * 0.618_033_988_749_894_9).fract());
        let radius = (-2.0 * u.ln()).sqrt();
        [radius * angle.cos(), radius * angle.sin()]
    }

    fn lattice(rows: &[&[f64]]) -> Array2<f64> {
        Array2::from_shape_fn((rows.len(), rows[0].len()), |(r, c)| rows[r][c])
    }

    fn enclosed_area(curves: &[Vec<[f64; 2]>]) -> f64 {
        let cross = |a: [f64; 2], b: [f64; 2]| 0.5 * (a[0] * b[1] - a[1] * b[0]);
        curves.iter().map(|c| (0..c.len()).map(|k| cross(c[k], c[(k + 1) % c.len()])).sum::<f64>()).sum()
    }

    #[test]
    fn levels_hold_the_mass_they_claim() {
        // For a Gaussian the density that encloses mass p is (1 - p) times the peak.
        for covariance in [[0.01, 0.0, 0.01], [0.01, 0.009, 0.012], [0.002, 0.0, 0.015]] {
            let density = gaussian(128, covariance);
            let peak = 1.0 / (TAU * (covariance[0] * covariance[2] - covariance[1].powi(2)).sqrt());
            for part in [0.1, 0.5, 0.68, 0.95] {
                let mass = 1.0 - density.level(part) / peak;
                assert!((mass - part).abs() < 0.01, "{covariance:?}: {mass} for {part}");
            }
        }
    }

    #[test]
    fn contours_of_a_round_gaussian_are_circles_of_the_right_radius() {
        let sigma = 0.12;
        let density = gaussian(128, [sigma * sigma, 0.0, sigma * sigma]);
        for part in [0.68, 0.95] {
            let curves = contours(density.value.view(), density.level(part));
            assert_eq!(curves.len(), 1);
            let expected = sigma * (-2.0 * (1.0f64 - part).ln()).sqrt();
            for &[x, y] in &curves[0] {
                let radius = (x - 0.5).hypot(y - 0.5);
                assert!((radius / expected - 1.0).abs() < 0.01, "{radius}, not {expected}");
            }
            assert!((enclosed_area(&curves) / (0.5 * TAU * expected * expected) - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn draws_of_a_narrow_tilted_gaussian_give_its_regions_back() {
        let (n, sigma, rho) = (20_000, 0.13, 0.95f64);
        let draws = (0..n).map(|i| {
            let [a, b] = normal(i, n);
            ([0.5 + sigma * a, 0.5 + sigma * (rho * a + (1.0 - rho * rho).sqrt() * b)], 1.0 / n as f64)
        });
        let density = Density::new(&bin((96, 96), draws), n as f64);
        for part in [0.68, 0.95] {
            let area = enclosed_area(&contours(density.value.view(), density.level(part)));
            let exact = TAU * -(1.0f64 - part).ln() * sigma * sigma * (1.0 - rho * rho).sqrt();
            assert!((area / exact - 1.0).abs() < 0.08, "{part}: area {area}, not {exact}");
        }
    }

    #[test]
    fn separate_modes_are_not_smeared_into_one() {
        // Two modes ten times narrower than their distance: Scott's rule alone is far too wide.
        let (n, sigma) = (4_000, 0.01);
        let draws = (0..n).map(|i| {
            let ([a, b], centre) = (normal(i, n), if i % 2 == 0 { 0.2 } else { 0.8 });
            ([centre + sigma * a, centre + sigma * b], 1.0 / n as f64)
        });
        let density = Density::new(&bin((96, 96), draws), n as f64);
        let curves = contours(density.value.view(), density.level(0.95));
        assert_eq!(curves.len(), 2);
        let exact = 2.0 * TAU * -(0.05f64).ln() * sigma * sigma;
        let area = enclosed_area(&curves);
        assert!(area < 2.5 * exact, "area {area}, not {exact}"); // a mode is one node wide here
    }

    #[test]
    fn a_density_cut_off_by_the_edge_stays_flat_up_to_it() {
        let n = 30_000;
        let draws = (0..n).map(|i| ([(i as f64 + 0.5) / n as f64, 0.0], 1.0 / n as f64));
        let density = Density::new(&bin((1, 200), draws), n as f64);
        for &value in &density.value {
            assert!((value - 1.0).abs() < 0.02, "{value}");
        }
        let square = (0..n).map(|i| {
            let u = (i as f64 * 0.754_877_666_246_692_7).fract();
            ([u, (i as f64 * 0.569_840_290_998_053_3).fract()], 1.0 / n as f64)
        });
        let density = Density::new(&bin((64, 64), square), n as f64);
        for &value in &density.value {
            assert!((value - 1.0).abs() < 0.1, "{value}");
        }
    }

    #[test]
    fn binning_keeps_mass_and_mean_and_leaves_out_what_is_outside() {
        let draws = [([0.123, 0.9], 0.25), ([1.0, 1.0], 0.25), ([0.0, 0.0], 0.25), ([1.01, 0.5], 0.25)];
        let mass = bin((7, 5), draws.into_iter());
        assert!((mass.sum() - 0.75).abs() < 1e-15);
        let mean: f64 = mass.indexed_iter().map(|((_, c), m)| m * c as f64 / 4.0).sum();
        assert!((mean - 0.25 * 1.123).abs() < 1e-15);
        assert_eq!(bin((3, 3), [([f64::NAN, 0.5], 1.0)].into_iter()).sum(), 0.0);
    }

    #[test]
    fn one_draw_and_none_make_a_density_of_their_mass() {
        for (draws, mass) in [(vec![([0.5, 0.5], 1.0)], 1.0), (vec![], 0.0)] {
            let density = Density::new(&bin((9, 9), draws.into_iter()), 1.0);
            assert!(density.value.iter().all(|value| value.is_finite()));
            assert!(((&density.value * &density.area).sum() - mass).abs() < 1e-12);
            let curves = contours(density.value.view(), density.level(0.95));
            assert_eq!(curves.len(), mass as usize);
        }
    }

    #[test]
    fn a_region_at_the_edge_is_closed_along_it() {
        let curves = contours(Array2::ones((3, 4)).view(), 0.5);
        assert_eq!(curves.len(), 1);
        assert!((enclosed_area(&curves) - 1.0).abs() < 1e-12);

        // High on the left: the crossing is half-way to the second column.
        let curves = contours(lattice(&[&[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0]]).view(), 0.5);
        assert_eq!(curves.len(), 1);
        assert!((enclosed_area(&curves) - 0.25).abs() < 1e-12);
        assert!(contours(Array2::zeros((3, 3)).view(), 0.5).is_empty());
        assert!(contours(Array2::zeros((0, 0)).view(), 0.5).is_empty());
    }

    #[test]
    fn a_saddle_is_joined_or_parted_by_the_value_in_its_middle() {
        let parted = lattice(&[&[1.0, 0.0], &[0.0, 1.0]]);
        assert_eq!(contours(parted.view(), 0.6).len(), 2);
        assert_eq!(contours(parted.view(), 0.4).len(), 1);
        let mirrored = lattice(&[&[0.0, 1.0], &[1.0, 0.0]]);
        assert_eq!(contours(mirrored.view(), 0.6).len(), 2);
        assert_eq!(contours(mirrored.view(), 0.4).len(), 1);
    }

    #[test]
    fn a_hole_runs_the_other_way_and_stays_open() {
        let mut ring = Array2::ones((5, 5));
        ring[[2, 2]] = 0.0;
        let curves = contours(ring.view(), 0.5);
        assert_eq!(curves.len(), 2);
        let hole = 0.5 * 0.25 * 0.25; // a diamond whose diagonals are one cell long
        assert!((enclosed_area(&curves) - (1.0 - hole)).abs() < 1e-12);
    }
}
