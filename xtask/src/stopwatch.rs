//! Time per stage, said as it passes and summed up at the end.

use std::time::{Duration, Instant};

pub struct Stopwatch {
    begun: Instant,
    stages: Vec<(String, Duration)>,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch { begun: Instant::now(), stages: Vec::new() }
    }

    /// Does one stage; its time counts also when it fails.
    pub fn stage<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        eprintln!("\n==> {name}");
        let begun = Instant::now();
        let result = work();
        self.stages.push((name.to_owned(), begun.elapsed()));
        result
    }

    pub fn table(&self) -> String {
        table(&self.stages, self.begun.elapsed())
    }
}

fn table(stages: &[(String, Duration)], total: Duration) -> String {
    let width = stages.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("total".len());
    let mut text = String::new();
    for (name, took) in stages.iter().map(|(n, t)| (n.as_str(), *t)).chain([("total", total)]) {
        text.push_str(&format!("  {name:<width$}  {:>7.1} s\n", took.as_secs_f64()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_under_each_other() {
        let stages =
            [("build".to_owned(), Duration::from_millis(61_250)), ("apply".to_owned(), Duration::from_secs(7))];
        let text = table(&stages, Duration::from_secs(70));
        assert_eq!(text, "  build     61.2 s\n  apply      7.0 s\n  total     70.0 s\n");
    }
}
