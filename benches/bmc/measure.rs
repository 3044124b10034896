//! The clock, the processors and the memory of one program.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Instant,
};

#[derive(Clone, Copy, Debug)]
pub struct Took {
    pub clock_s: f64,
    /// User and system time of the program.
    pub worked_s: f64,
    pub peak_mb: f64,
    /// Least and most by the clock, of several.
    pub range: (f64, f64),
}

impl Took {
    pub fn words(&self, requests: f64) -> String {
        format!(
            "{:.2} s ({:.2} to {:.2}), processors {:.2} s = {:.3} ms a request, {:.0} MB",
            self.clock_s,
            self.range.0,
            self.range.1,
            self.worked_s,
            self.worked_s * 1e3 / requests,
            self.peak_mb
        )
    }
}

/// The middle one by the clock, the middle one of the work, the most of the memory.
pub fn of_several(tries: usize, mut once: impl FnMut() -> Took) -> Took {
    let all: Vec<Took> = (0..tries).map(|_| once()).collect();
    let middle = |of: fn(&Took) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let clock = middle(|t| t.clock_s);
    Took {
        clock_s: clock.0,
        worked_s: middle(|t| t.worked_s).0,
        peak_mb: middle(|t| t.peak_mb).2,
        range: (clock.1, clock.2),
    }
}

// `wait4` below is the wait: it alone tells what this child has worked.
#[allow(clippy::zombie_processes)]
/// Runs it to its end; what it says goes through a file, so that no reader of ours is in the measurement.
pub fn run(command: &mut Command, out: &Path) -> (Took, String) {
    let file = File::create(out).unwrap();
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::inherit()).spawn().unwrap();
    let (mut status, pid) = (0, libc::pid_t::try_from(child.id()).unwrap());
    // SAFETY: rusage is plain numbers, for which zero is a value; the kernel writes both for a child of ours that
    // nobody else waits for.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::wait4(pid, &mut status, 0, &mut usage), pid);
        usage
    };
    let clock_s = began.elapsed().as_secs_f64();
    let status = ExitStatus::from_raw(status);
    let said = std::fs::read_to_string(out).unwrap();
    assert!(status.success(), "{status}: {}", said.lines().take(5).collect::<Vec<_>>().join("\n"));
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let worked_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    let took = Took { clock_s, worked_s, peak_mb: usage.ru_maxrss as f64 / 1024.0, range: (clock_s, clock_s) };
    (took, said)
}

/// User and system time of a program that runs.
pub fn worked_s(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // SAFETY: sysconf takes a number and gives one.
    ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// As many as this process may have; children inherit it.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both take a pointer to a struct of two numbers that lives through the call.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    limit.rlim_cur
}
