//! The program as a shell sees it: files, pipes, a terminal, signals, exit codes.
#![cfg(unix)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use retrodict::files::{read_npz, read_table, write_npy, write_table};
use retrodict::ndarray::{Array2, Axis, array, s};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_retrodict");

/// A folder of its own for each test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("retrodict-cli-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder); // of an earlier run
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The program with these words, separated by blanks.
fn command(folder: &Path, words: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words.split_whitespace()).current_dir(folder);
    command
}

fn run(folder: &Path, words: &str) -> Output {
    command(folder, words).stdin(Stdio::null()).output().unwrap()
}

/// What it writes to standard output, if all is well and standard error has nothing of a progress bar.
fn ok(folder: &Path, words: &str) -> String {
    let output = run(folder, words);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}: {errors}");
    assert!(!errors.contains('\u{1b}') && !errors.contains('\r'), "{words}: {errors:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, words: &str) -> Value {
    serde_json::from_str(&ok(folder, &format!("--json {words}"))).unwrap()
}

/// The exit code is this one, and the message has these words.
fn fails(folder: &Path, words: &str, code: i32, says: &[&str]) {
    let output = run(folder, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words}: {errors}");
    for word in says {
        assert!(errors.contains(word), "{words}: no `{word}` in: {errors}");
    }
    assert!(!errors.contains("panicked"), "{words}: {errors}");
}

/// Simulations of two moons and a posterior that was trained on them, made once.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = folder("trained");
        let simulate = "simulate --task two-moons --rows 2e3 --seed 3";
        ok(&folder, &format!("{simulate} --out s.npz --write-prior prior.toml"));
        ok(&folder, &format!("{simulate} --theta theta.csv --x x.npy"));
        ok(&folder, "simulate --task two-moons --rows 100 --seed 4 --theta test.npy --x test_x.npy");
        for family in ["realnvp", "gan"] {
            ok(&folder, &format!("fit {FIT} --family {family} --out {family}.safetensors --epochs 4 --batch 500"));
        }
        folder
    })
}

const FIT: &str = "--theta theta.csv --x x.npy --prior prior.toml";

#[test]
fn tables_pass_from_one_command_to_the_next() {
    let from = trained();
    let to = folder("whole");
    let at = |file: &str| from.join(file).display().to_string();

    // The same simulations in both kinds of files.
    let archive = read_npz(from.join("s.npz")).unwrap();
    assert_eq!(archive[0].1, read_table(from.join("theta.csv"), "").unwrap().values.into_dyn());
    assert_eq!(archive[1].1, read_table(from.join("x.npy"), "").unwrap().values.into_dyn());

    let header = json(&to, &format!("inspect {}", at("realnvp.safetensors")));
    assert_eq!(header["parameters"], serde_json::json!(["θ1", "θ2"]));
    assert_eq!((&header["features"], &header["data"]["rows"]), (&Value::from(2), &Value::from(2000)));
    assert!(ok(&to, &format!("inspect {}", at("realnvp.safetensors"))).contains("θ1 in [-1, 1]"));

    // Three formats of the same draws, from three kinds of input.
    let sample = format!("sample {} --draws 30 --seed 5", at("realnvp.safetensors"));
    let x = read_table(from.join("test_x.npy"), "").unwrap().values;
    write_table(to.join("x.csv"), &["a", "b"], x.view()).unwrap();
    ok(&to, &format!("{sample} --x {} --out d.npy", at("test_x.npy")));
    ok(&to, &format!("{sample} --x x.csv --out d.npz"));
    let mut piped =
        command(&to, &format!("{sample} --x - ")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&std::fs::read(to.join("x.csv")).unwrap()).unwrap();
    std::fs::write(to.join("d.csv"), piped.wait_with_output().unwrap().stdout).unwrap();
    let text = read_table(to.join("d.csv"), "").unwrap();
    assert_eq!(text.names.unwrap(), ["observation", "draw", "θ1", "θ2"]);
    let npz = read_npz(to.join("d.npz")).unwrap();
    assert_eq!(npz[1].1.shape(), [1, 30, 100]);
    assert_eq!(std::fs::metadata(to.join("d.npy")).unwrap().len(), 128 + 100 * 30 * 2 * 8);
    for (row, draw) in [(0, 0), (0, 29), (57, 3), (99, 29)] {
        assert_eq!(text.values.slice(s![30 * row + draw, ..2]), array![row as f64, draw as f64]);
        assert_eq!(text.values[(30 * row + draw, 3)], npz[1].1[[0, draw, row]]);
    }

    // Densities, with columns found by their names, and one observation for all rows.
    write_npy(to.join("one.npy"), x.slice(s![57..58, ..]).into_dyn()).unwrap();
    write_npy(to.join("theta.npy"), text.values.slice(s![57 * 30..58 * 30, 2..]).into_dyn()).unwrap();
    let log_prob = format!("log-prob {}", at("realnvp.safetensors"));
    ok(&to, &format!("{log_prob} --theta theta.npy --x one.npy --out q.npy"));
    let q = read_table(to.join("q.npy"), "").unwrap().values;
    assert_eq!((q.nrows(), q.iter().all(|q| q.is_finite())), (30, true));
    std::fs::write(to.join("q.csv"), ok(&to, &format!("{log_prob} --theta d.csv --x one.npy"))).unwrap();
    let all = read_table(to.join("q.csv"), "").unwrap().values;
    assert_eq!(all.slice(s![57 * 30..58 * 30, 1]), q.column(0));

    let report = to.join("report.html");
    let test = format!("--theta {} --x {} --draws 50", at("test.npy"), at("test_x.npy"));
    let verdicts = json(&to, &format!("validate {} {test} --report report.html", at("realnvp.safetensors")));
    assert!(verdicts["findings"].as_array().unwrap().len() > 5);
    let html = std::fs::read_to_string(report).unwrap();
    assert!(html.contains("<svg") && html.contains("θ2"));
    // Of two observations, the second is like no simulation: it is named, and the report says it too.
    write_npy(to.join("two.npy"), array![[x[(0, 0)], x[(0, 1)]], [40.0, 0.0]].view().into_dyn()).unwrap();
    let validate = format!("validate {} {test} --observed two.npy", at("realnvp.safetensors"));
    let verdicts = json(&to, &format!("{validate} --report observed.html"));
    let of = |row: &str| {
        let all = verdicts["findings"].as_array().unwrap().iter();
        all.filter(|f| f["subject"] == *row).map(|f| f["verdict"].as_str().unwrap()).max().unwrap()
    };
    assert_eq!((of("observation 0"), of("observation 1")), ("sound", "wrong"));
    assert!(std::fs::read_to_string(to.join("observed.html")).unwrap().contains("Row 1: The observation is unlike"));
    fails(&to, &format!("{validate} --strict"), 1, &["[wrong] Row 1: The observation is unlike"]);
    // A generator without a density is validated too.
    assert!(ok(&to, &format!("validate {} {test}", at("gan.safetensors"))).contains("worst verdict"));
    std::fs::remove_dir_all(to).unwrap();
}

#[test]
fn every_error_says_what_and_where() {
    let from = trained();
    let to = folder("errors");
    for file in ["theta.csv", "x.npy", "prior.toml", "realnvp.safetensors", "gan.safetensors", "test.npy", "test_x.npy"]
    {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let x = read_table(to.join("x.npy"), "").unwrap().values;
    write_npy(to.join("wide.npy"), ndarray_of(2000, 3).view().into_dyn()).unwrap();
    write_npy(to.join("short.npy"), x.slice(s![..10, ..]).into_dyn()).unwrap();
    let mut holes = x.clone();
    holes[(7, 1)] = f64::NAN;
    write_npy(to.join("holes.npy"), holes.view().into_dyn()).unwrap();
    std::fs::write(to.join("bad.csv"), "a,b\n1,2\n3,x\n").unwrap();
    std::fs::write(to.join("bad.toml"), "[[parameter]]\nname = 'a'\ndistribution = 'gauss'\n").unwrap();
    let bytes = std::fs::read(to.join("realnvp.safetensors")).unwrap();
    std::fs::write(to.join("cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();

    let fit = |words: &str| format!("fit --out new.safetensors --epochs 1 {words}");
    let tables = |theta: &str, x: &str| fit(&format!("--theta {theta} --x {x} --prior prior.toml"));
    for (words, code, says) in [
        (tables("none.npy", "x.npy"), 1, vec!["none.npy", "No such file"]),
        (tables("theta.csv", "short.npy"), 1, vec!["x rows", "2000", "10"]),
        (tables("wide.npy", "x.npy"), 1, vec!["theta columns", "2", "3"]),
        (tables("theta.csv", "holes.npy"), 1, vec!["x: row 7, column 1 is not finite", "--drop"]),
        (tables("theta.csv", "bad.csv"), 1, vec!["bad.csv: line 3, column 2 (`b`): `x` is not a number"]),
        (tables("bad.csv", "x.npy"), 1, vec!["no column `θ1` among a, b"]),
        (tables("theta.csv", "prior.toml"), 1, vec!["prior.toml", ".npy, .npz or .csv"]),
        (fit("--theta theta.csv --x x.npy --prior bad.toml"), 1, vec!["bad.toml: line 3", "no distribution `gauss`"]),
        (fit(&format!("{FIT} --family maf")), 2, vec!["`maf`", "flow-matching"]),
        (fit(&format!("{FIT} --batch 0")), 1, vec!["`batch`"]),
        (fit(&format!("{FIT} --holdout 2")), 1, vec!["`holdout`", "between 0 and 1"]),
        ("fit --theta theta.csv".into(), 2, vec!["--x", "Usage"]),
        (format!("fit {FIT} --out realnvp.safetensors"), 1, vec!["realnvp.safetensors exists already", "--force"]),
        (format!("fit {FIT} --out no/such/folder --epochs 1"), 1, vec!["no/such/folder"]),
        ("sample cut.safetensors --x test_x.npy".into(), 1, vec!["cut.safetensors", "truncated"]),
        ("sample x.npy --x test_x.npy".into(), 1, vec!["x.npy", "not a safetensors file"]),
        ("sample realnvp.safetensors --x wide.npy --out d.npy".into(), 1, vec!["features", "expected 2, found 3"]),
        ("sample realnvp.safetensors --x holes.npy --draws 40000 --out d.npy".into(), 1, vec!["row 7, column 1"]),
        ("sample realnvp.safetensors --x test_x.npy --draws 0".into(), 2, vec!["--draws"]),
        ("sample realnvp.safetensors --x test_x.npy --json".into(), 2, vec!["--out"]),
        ("sample realnvp.safetensors --x test_x.npy --out d.txt".into(), 1, vec!["d.txt", ".npy, .npz or .csv"]),
        ("log-prob gan.safetensors --theta test.npy --x test_x.npy".into(), 1, vec!["no normalised density"]),
        ("log-prob realnvp.safetensors --theta test.npy --x short.npy".into(), 1, vec!["rows", "100", "10"]),
        ("validate realnvp.safetensors --theta test.npy --x short.npy".into(), 1, vec!["rows"]),
        (
            "validate realnvp.safetensors --theta test.npy --x test_x.npy --draws 9 --observed holes.npy".into(),
            1,
            vec!["observed: row 7, column 1 is not finite"],
        ),
        ("inspect prior.toml".into(), 1, vec!["prior.toml", "not a safetensors file"]),
        ("simulate --rows 10 --out s.npz".into(), 2, vec!["--task"]),
        ("simulate --task two-moons --rows ten --out s.npz".into(), 2, vec!["`ten` is not a number of rows"]),
        ("simulate --prior prior.toml --rows 10 --out s.npz -- no-such-program".into(), 1, vec!["cannot be started"]),
        ("simulate --prior prior.toml --rows 10 --out s.npz -- false".into(), 1, vec!["gave nothing", "row 0"]),
        ("frobnicate".into(), 2, vec!["frobnicate"]),
    ] {
        fails(&to, &words, code, &says);
        assert!(!to.join("new.safetensors").exists() && !to.join("d.npy").exists(), "{words} left a file");
    }
    assert_eq!(std::fs::read(to.join("realnvp.safetensors")).unwrap(), bytes, "an older file is unharmed");
    let output = run(&to, "inspect none.safetensors --json");
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["error"].as_str().unwrap().contains("none.safetensors"));
    // What --drop leaves out is counted.
    let kept =
        json(&to, "fit --theta theta.csv --x holes.npy --prior prior.toml --epochs 1 --drop --out new.safetensors");
    assert_eq!(kept["dropped"], 1);
    std::fs::remove_dir_all(to).unwrap();
}

fn ndarray_of(rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(i, j)| ((i + 7 * j) % 97) as f64)
}

#[test]
fn every_command_has_help_with_examples() {
    let to = folder("help");
    for command in ["fit", "sample", "log-prob", "validate", "inspect", "simulate", "demo"] {
        let help = ok(&to, &format!("{command} --help"));
        assert!(help.contains("Examples:") && help.contains(&format!("retrodict {command}")), "{help}");
    }
    let help = ok(&to, "--help");
    assert!(help.contains("Exit codes:") && help.contains("130"));
    std::fs::remove_dir_all(to).unwrap();
}

#[test]
fn a_reader_that_hangs_up_is_no_error() {
    let from = trained();
    let line = format!("set -o pipefail; {PROGRAM} sample realnvp.safetensors --x test_x.npy --draws 2000 | head -n 3");
    let output = Command::new("bash").args(["-c", &line]).current_dir(from).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
}

/// The program in a terminal of its own; what it shows there, and its exit code.
fn in_terminal(folder: &Path, words: &str) -> Child {
    let line = format!("exec {PROGRAM} {words}");
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).current_dir(folder).env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn progress_is_shown_in_a_terminal() {
    let terminal =
        in_terminal(trained(), &format!("fit {FIT} --family realnvp --epochs 30 --out t.safetensors --force"));
    let output = terminal.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("epoch ") && shown.contains("/30, validation loss"), "{shown}");
}

/// A training that would take minutes.
const LONG: &str = "--family realnvp --batch 100 --epochs 100000 --patience 100000";

/// Exit code 130, and a checkpoint in the place of a posterior.
fn interrupted(folder: &Path, file: &str, output: &Output) {
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{shown}");
    assert!(shown.contains(&format!("interrupted: {file}.checkpoint")) && shown.contains("--resume"), "{shown}");
    assert!(folder.join(format!("{file}.checkpoint")).exists() && !folder.join(file).exists());
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_posterior() {
    let from = trained();
    // So many epochs that the last is far away when the first has been seen to be over.
    let train = format!("{FIT} --family realnvp --batch 100 --epochs 200 --patience 200 --checkpoint-every 0");
    ok(from, &format!("fit {train} --out straight.safetensors"));
    for signal in ["-INT", "-TERM", "-KILL"] {
        let file = format!("resumed{signal}.safetensors");
        let mut child = command(from, &format!("fit {train} --out {file}"));
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let checkpoint = from.join(format!("{file}.checkpoint"));
        while !checkpoint.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{file}: over without a checkpoint");
            std::thread::sleep(Duration::from_millis(1));
        }
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        if signal != "-KILL" {
            interrupted(from, &file, &output);
            fails(from, &format!("fit {train} --out {file}"), 1, &["interrupted training", "--resume", "--force"]);
        }
        ok(from, &format!("fit {train} --out {file} --resume"));
        assert!(!checkpoint.exists(), "a finished training needs none");
        let densities = |file: &str| ok(from, &format!("log-prob {file} --theta test.npy --x test_x.npy"));
        assert_eq!(densities(&file), densities("straight.safetensors"));
    }
}

#[test]
fn ctrl_c_in_a_terminal_does_the_same() {
    let mut terminal = in_terminal(trained(), &format!("fit {FIT} {LONG} --out c.safetensors"));
    std::thread::sleep(Duration::from_millis(700));
    terminal.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    interrupted(trained(), "c.safetensors", &terminal.wait_with_output().unwrap());
}

#[test]
fn a_bad_simulator_costs_its_rows() {
    let to = folder("simulators");
    std::fs::copy(trained().join("prior.toml"), to.join("prior.toml")).unwrap();
    let script = r#"while read -r line; do
        r=${line#*\"row\": }; r=${r%%,*}; theta=${line#*\"theta\": }; theta=${theta%\}}
        case $r in 3) exit 1;; 6) sleep 60;; 9) echo garbage;; *) echo "{\"row\": $r, \"x\": $theta}";; esac
    done"#;
    std::fs::write(to.join("simulator.sh"), script).unwrap();
    let simulate = "simulate --prior prior.toml --timeout 0.5 --workers 2";
    let run = json(&to, &format!("{simulate} --rows 20 --out s.npz -- sh simulator.sh"));
    let rows: Vec<u64> = run["failures"].as_array().unwrap().iter().map(|f| f["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [3, 6, 9]);
    let [(_, theta), (_, x)] = &read_npz(to.join("s.npz")).unwrap()[..] else { panic!("two arrays") };
    for (row, (theta, x)) in theta.outer_iter().zip(x.axis_iter(Axis(0))).enumerate() {
        assert!(if rows.contains(&(row as u64)) { x.iter().all(|x| x.is_nan()) } else { x == theta }, "row {row}");
    }
    // Ctrl-C keeps the rows that are there, and says how to go on.
    let mut child = command(&to, &format!("{simulate} --rows 1e9 --out part.npz -- sh simulator.sh"));
    let child = child.stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    let done = read_npz(to.join("part.npz")).unwrap()[0].1.shape()[0];
    assert!(done > 10 && errors.contains(&format!("--first-row {done}")), "{errors}");
    std::fs::remove_dir_all(to).unwrap();
}
