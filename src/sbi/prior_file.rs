//! A prior as a text file.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::prior::{Law, PriorBuilder};
use super::scalar::Scalar;
use super::shares::Shares;
use crate::error::Error;
use crate::sbi::Prior;

/// A prior with the units of its parameters, as `prior.toml` describes it: a table for each parameter or block, in the
/// order of the columns of θ.
///
/// ```
/// use retrodict::sbi::PriorFile;
/// let file = PriorFile::parse("prior.toml", r#"
///     [[parameter]]
///     name = "log_mass"
///     distribution = "uniform"
///     low = 8
///     high = 12
///     unit = "dex"             # a name for humans; may be left out
///
///     [[parameter]]
///     names = ["t25", "t50", "t75"]
///     distribution = "ordered_dirichlet"
///     concentrations = [1, 1, 1, 1]
/// "#)?;
/// assert_eq!(file.prior.names(), ["log_mass", "t25", "t50", "t75"]);
/// assert_eq!(PriorFile::parse("again", &file.to_string())?, file);
/// # Ok::<(), retrodict::Error>(())
/// ```
///
/// | distribution | keys |
/// |---|---|
/// | `uniform`, `log_uniform` | `low`, `high` |
/// | `normal`, `log_normal` (of the logarithm) | `mean`, `sd` |
/// | `truncated_normal` | `mean`, `sd`, `low`, `high` |
/// | `dirichlet`, `ordered_dirichlet` | `names` and `units` instead of `name` and `unit`; `concentrations`, one for each name and one for what remains |
#[derive(Clone, Debug, PartialEq)]
pub struct PriorFile {
    /// The prior.
    pub prior: Prior,
    /// The unit of each parameter, empty if it has none.
    pub units: Vec<String>,
}

/// The distributions and their keys.
const LAWS: [(&str, &[&str]); 7] = [
    ("uniform", &["low", "high"]),
    ("log_uniform", &["low", "high"]),
    ("normal", &["mean", "sd"]),
    ("log_normal", &["mean", "sd"]),
    ("truncated_normal", &["mean", "sd", "low", "high"]),
    ("dirichlet", &["concentrations"]),
    ("ordered_dirichlet", &["concentrations"]),
];

impl PriorFile {
    /// A prior whose parameters have no units.
    pub fn new(prior: Prior) -> Self {
        let units = vec![String::new(); prior.dim()];
        Self { prior, units }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`PriorFile::parse`], and [`Error::File`] if it cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path.as_ref()).map_err(|why| Error::file(path.as_ref(), why))?;
        Self::parse(path, &text)
    }

    /// Reads a text; `path` is the name that errors give it.
    ///
    /// # Errors
    /// [`Error::File`] that names the line, the parameter, and what would be right.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self, Error> {
        parse(text).map_err(|(at, why)| {
            let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
            Error::file(path.as_ref(), format!("line {line}: {why}"))
        })
    }

    /// Each parameter's name, with its unit in brackets if it has one.
    pub fn labels(&self) -> Vec<String> {
        let label = |(name, unit): (&String, &String)| {
            if unit.is_empty() { name.clone() } else { format!("{name} [{unit}]") }
        };
        self.prior.names().iter().zip(&self.units).map(label).collect()
    }
}

/// Where in the text something is wrong, and what.
type Wrong = (usize, String);

fn parse(text: &str) -> Result<PriorFile, Wrong> {
    let syntax = |why: toml::de::Error| (why.span().map_or(0, |span| span.start), why.message().to_string());
    let document = DeTable::parse(text).map_err(syntax)?;
    let mut parameters = None;
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "parameter" => parameters = Some(value),
            other => {
                return Err((key.span().start, format!("`{other}`; a prior has nothing but [[parameter]] tables")));
            }
        }
    }
    let none = || (0, "no [[parameter]] table; a prior has one for each parameter".to_string());
    let entries = match parameters.ok_or_else(none)?.get_ref() {
        DeValue::Array(entries) => entries,
        _ => return Err(none()),
    };
    let (mut prior, mut units, mut names) = (Prior::new(), Vec::new(), Vec::new());
    for entry in entries {
        let entry = Entry::new(entry)?;
        // Alone first, so that the error has the line of its entry.
        entry.add_to(Prior::new())?.build().map_err(|why| entry.wrong(entry.at.start, why.to_string()))?;
        if let Some(name) = entry.names.iter().find(|name| names.contains(*name)) {
            return Err(
                entry.wrong(entry.at.start, format!("there is an earlier parameter `{name}`; names must differ"))
            );
        }
        prior = entry.add_to(prior)?;
        units.extend(entry.units()?);
        names.extend(entry.names);
    }
    let prior = prior.build().map_err(|why| (0, why.to_string()))?;
    Ok(PriorFile { prior, units })
}

/// One [[parameter]] table.
struct Entry<'a> {
    at: Range<usize>,
    table: &'a DeTable<'a>,
    names: Vec<String>,
    law: &'static str,
}

impl<'a> Entry<'a> {
    fn new(entry: &'a Spanned<DeValue<'a>>) -> Result<Self, Wrong> {
        let DeValue::Table(table) = entry.get_ref() else {
            return Err((entry.span().start, "not a table; expected [[parameter]]".into()));
        };
        let mut own = Self { at: entry.span(), table, names: Vec::new(), law: "" };
        own.names = own.one_or_many("name", "names")?.ok_or_else(|| own.missing("name"))?;
        let distribution = own.get("distribution").ok_or_else(|| own.missing("distribution"))?;
        let found = own.text("distribution", distribution)?;
        let known = LAWS.iter().find(|(law, _)| *law == found);
        let (law, keys) = known.ok_or_else(|| {
            let laws: Vec<&str> = LAWS.iter().map(|(law, _)| *law).collect();
            own.wrong(distribution.span().start, format!("no distribution `{found}`; there are {}", laws.join(", ")))
        })?;
        own.law = law;
        own.check_keys(keys)?;
        Ok(own)
    }

    /// Nothing but the law's keys, and names and units as they are written for it.
    fn check_keys(&self, keys: &[&str]) -> Result<(), Wrong> {
        let naming: &[&str] = if self.is_block() { &["names", "units"] } else { &["name", "unit"] };
        let allowed: Vec<&str> = [&["distribution"], naming, keys].concat();
        match self.table.keys().find(|key| !allowed.contains(&key.get_ref().as_ref())) {
            Some(key) => {
                let why =
                    format!("no key `{}` in a {} table; its keys are {}", key.get_ref(), self.law, allowed.join(", "));
                Err(self.wrong(key.span().start, why))
            }
            None => Ok(()),
        }
    }

    fn is_block(&self) -> bool {
        self.law.ends_with("dirichlet")
    }

    fn add_to(&self, prior: PriorBuilder) -> Result<PriorBuilder, Wrong> {
        let number = |key| self.number(key);
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let name = names[0];
        Ok(match self.law {
            "uniform" => prior.uniform(name, number("low")?, number("high")?),
            "log_uniform" => prior.log_uniform(name, number("low")?, number("high")?),
            "normal" => prior.normal(name, number("mean")?, number("sd")?),
            "log_normal" => prior.log_normal(name, number("mean")?, number("sd")?),
            "truncated_normal" => {
                prior.truncated_normal(name, number("mean")?, number("sd")?, number("low")?, number("high")?)
            }
            "dirichlet" => prior.dirichlet(&names, &self.concentrations()?),
            _ => prior.ordered_dirichlet(&names, &self.concentrations()?),
        })
    }

    /// One for each name.
    fn units(&self) -> Result<Vec<String>, Wrong> {
        let units = self.one_or_many("unit", "units")?.unwrap_or_else(|| vec![String::new(); self.names.len()]);
        if units.len() != self.names.len() {
            let why = format!("{} units for {} names; each needs one, if only \"\"", units.len(), self.names.len());
            return Err(self.wrong(self.at.start, why));
        }
        Ok(units)
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// A text under the one key or a list of texts under the other; `None` if neither is there.
    fn one_or_many(&self, one: &str, many: &str) -> Result<Option<Vec<String>>, Wrong> {
        match (self.get(one), self.get(many)) {
            (None, None) => Ok(None),
            (Some(value), _) => Ok(Some(vec![self.text(one, value)?])),
            (None, Some(value)) => match value.get_ref() {
                DeValue::Array(texts) if !texts.is_empty() => {
                    texts.iter().map(|value| self.text(many, value)).collect::<Result<_, _>>().map(Some)
                }
                _ => Err(self.wrong(value.span().start, format!("`{many}` should be a list of texts, [\"a\", \"b\"]"))),
            },
        }
    }

    fn text(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, Wrong> {
        let text = value.get_ref().as_str().map(String::from);
        text.ok_or_else(|| self.wrong(value.span().start, format!("`{key}` should be text in quotes")))
    }

    fn number(&self, key: &str) -> Result<f64, Wrong> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        self.float(key, value)
    }

    fn concentrations(&self) -> Result<Vec<f64>, Wrong> {
        let key = "concentrations";
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        match value.get_ref() {
            DeValue::Array(numbers) => numbers.iter().map(|value| self.float(key, value)).collect(),
            _ => Err(self.wrong(value.span().start, format!("`{key}` should be a list of numbers"))),
        }
    }

    fn float(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<f64, Wrong> {
        let number = match value.get_ref() {
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|integer| integer as f64)
            }
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(value.span().start, format!("`{key}` should be a number")))
    }

    fn missing(&self, key: &str) -> Wrong {
        self.wrong(self.at.start, format!("no `{key}`"))
    }

    /// What is wrong at a place of this table.
    fn wrong(&self, at: usize, why: impl fmt::Display) -> Wrong {
        let prefix = if self.names.is_empty() {
            "[[parameter]]".into()
        } else {
            format!("parameter `{}`", self.names.join(", "))
        };
        let why = why.to_string();
        (at, if why.starts_with("parameter `") { why } else { format!("{prefix}: {why}") })
    }
}

impl fmt::Display for PriorFile {
    /// The text of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, (columns, law)) in self.prior.blocks().enumerate() {
            let (names, units) = (&self.prior.names()[columns.clone()], &self.units[columns]);
            writeln!(f, "{}[[parameter]]", if k == 0 { "" } else { "\n" })?;
            let has_units = units.iter().any(|unit| !unit.is_empty());
            match law {
                Law::Scalar(scalar) => {
                    writeln!(f, "name = {}", quoted(&names[0]))?;
                    write_scalar(f, scalar)?;
                    if has_units { writeln!(f, "unit = {}", quoted(&units[0])) } else { Ok(()) }?;
                }
                Law::Dirichlet(dirichlet) => {
                    let ordered = matches!(dirichlet.form, Shares::Ordered { .. });
                    writeln!(f, "names = [{}]", names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", "))?;
                    writeln!(f, "distribution = \"{}\"", if ordered { "ordered_dirichlet" } else { "dirichlet" })?;
                    writeln!(f, "concentrations = {:?}", dirichlet.alpha)?;
                    if has_units {
                        writeln!(f, "units = [{}]", units.iter().map(|u| quoted(u)).collect::<Vec<_>>().join(", "))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_scalar(f: &mut fmt::Formatter<'_>, scalar: &Scalar) -> fmt::Result {
    match scalar {
        Scalar::Uniform { lo, hi } => writeln!(f, "distribution = \"uniform\"\nlow = {lo:?}\nhigh = {hi:?}"),
        Scalar::LogUniform { lo, hi } => writeln!(f, "distribution = \"log_uniform\"\nlow = {lo:?}\nhigh = {hi:?}"),
        Scalar::Normal { mean, sd } => writeln!(f, "distribution = \"normal\"\nmean = {mean:?}\nsd = {sd:?}"),
        Scalar::LogNormal { mean, sd, .. } => {
            writeln!(f, "distribution = \"log_normal\"\nmean = {mean:?}\nsd = {sd:?}")
        }
        Scalar::TruncatedNormal { mean, sd, lo, hi } => {
            writeln!(
                f,
                "distribution = \"truncated_normal\"\nmean = {mean:?}\nsd = {sd:?}\nlow = {lo:?}\nhigh = {hi:?}"
            )
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_law_comes_back() {
        let prior = Prior::new()
            .uniform("a", -1.0, 1e300)
            .log_uniform("b \"quoted\\\"", 1e-7, 0.1)
            .normal("c", 0.1, 1.0 / 3.0)
            .log_normal("d", -2.0, 5e-324)
            .truncated_normal("e", 0.3, 1.0, 0.0, 4.0)
            .dirichlet(&["f", "g"], &[1.0, 2.5, 1e-9])
            .ordered_dirichlet(&["h"], &[1e9, 1.0])
            .build()
            .unwrap();
        let mut file = PriorFile::new(prior);
        assert_eq!(PriorFile::parse("p", &file.to_string()).unwrap(), file);
        assert_eq!(file.labels()[0], "a");
        for (k, unit) in file.units.iter_mut().enumerate() {
            *unit = format!("unit {k}\n");
        }
        assert_eq!(PriorFile::parse("p", &file.to_string()).unwrap(), file, "{file}");
        assert_eq!(file.labels()[2], "c [unit 2\n]");
    }

    #[test]
    fn numbers_as_people_write_them() {
        let file = PriorFile::parse(
            "p",
            "[[parameter]]\nname='a'\ndistribution='uniform'\nlow=-1_000\nhigh=0x10\n[[parameter]]\nname='b'\n\
             distribution='normal'\nmean=+1.5e-1\nsd=2\n",
        );
        let want = Prior::new().uniform("a", -1000.0, 16.0).normal("b", 0.15, 2.0).build().unwrap();
        assert_eq!(file.unwrap().prior, want);
    }

    #[test]
    fn errors_name_the_line_the_parameter_and_what_would_be_right() {
        let good = "[[parameter]]\nname = 'a'\ndistribution = 'uniform'\nlow = 0\nhigh = 1\n";
        let message = |text: &str| PriorFile::parse("prior.toml", text).unwrap_err().to_string();
        let after = |text: &str| message(&format!("{good}\n[[parameter]]\n{text}"));
        for (found, want) in [
            (message(""), "line 1: no [[parameter]] table; a prior has one for each parameter"),
            (message("parameter = 3"), "line 1: no [[parameter]] table; a prior has one for each parameter"),
            (message("parameter = [3]"), "line 1: not a table; expected [[parameter]]"),
            (message("a = 1"), "line 1: `a`; a prior has nothing but [[parameter]] tables"),
            (after("distribution = 'normal'"), "line 7: [[parameter]]: no `name`"),
            (after("name = 3"), "line 8: [[parameter]]: `name` should be text in quotes"),
            (after("name = 'b'"), "line 7: parameter `b`: no `distribution`"),
            (
                after("name = 'b'\ndistribution = 'gauss'"),
                "line 9: parameter `b`: no distribution `gauss`; there are uniform, log_uniform, normal, log_normal, \
                 truncated_normal, dirichlet, ordered_dirichlet",
            ),
            (
                after("name = 'b'\ndistribution = 'normal'\nlow = 1"),
                "line 10: parameter `b`: no key `low` in a normal table; its keys are distribution, name, unit, mean, sd",
            ),
            (after("name = 'b'\ndistribution = 'normal'\nmean = 1"), "line 7: parameter `b`: no `sd`"),
            (
                after("name = 'b'\ndistribution = 'normal'\nmean = 1\nsd = '1'"),
                "line 11: parameter `b`: `sd` should be a number",
            ),
            (
                after("name = 'b'\ndistribution = 'uniform'\nlow = 2\nhigh = 1"),
                "line 7: parameter `b`: [2, 1] is empty; it must be lo < hi",
            ),
            (
                after("name = 'a'\ndistribution = 'normal'\nmean = 1\nsd = 1"),
                "line 7: parameter `a`: there is an earlier parameter `a`; names must differ",
            ),
            (
                after("names = []\ndistribution = 'dirichlet'\nconcentrations = [1]"),
                "line 8: [[parameter]]: `names` should be a list of texts, [\"a\", \"b\"]",
            ),
            (
                after("names = ['b']\ndistribution = 'dirichlet'\nconcentrations = [1]"),
                "line 7: parameter `b`: 1 concentrations; it must be 2, one for each name and one for what remains",
            ),
            (
                after("names = ['b']\nunits = ['m', 'm']\ndistribution = 'dirichlet'\nconcentrations = [1, 1]"),
                "line 7: parameter `b`: 2 units for 1 names; each needs one, if only \"\"",
            ),
        ] {
            assert_eq!(found, format!("prior.toml: {want}"));
        }
        assert!(message("[[parameter]\nname = 'a'").contains("line 1: "));
        assert!(message("[[parameter]]\nname = 'a'\nname = 'b'").contains("line 3: "));
        assert!(PriorFile::read("no/such.toml").unwrap_err().to_string().contains("no/such.toml"));
    }
}
