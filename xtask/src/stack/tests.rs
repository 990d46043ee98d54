//! The supervisor with real, tiny processes.

use std::fmt::Write as _;

use super::*;

/// A stack of shell scripts, each listening on nothing: readiness is a TCP port that the test holds.
struct Fixture {
    stack: Stack,
    dir: tempfile::TempDir,
    _ready: std::net::TcpListener,
}

fn fixture(scripts: &[(&str, &str)], change: impl FnOnce(&mut Options)) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let ready = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut text = String::new();
    for (name, script) in scripts {
        let address = ready.local_addr().unwrap();
        write!(
            text,
            "[[process]]\nname = {name:?}\ncommand = [\"sh\", \"-c\", {script:?}]\nenv = {{ FROM = \"manifest\" }}\n\
             ready = {{ tcp = \"{address}\", timeout_seconds = 5 }}\n"
        )
        .unwrap();
    }
    let mut options = Options::isolated(dir.path().join("state"));
    options.stop_within = Duration::from_secs(2);
    change(&mut options);
    let stack = Stack::new(dir.path(), Manifest::parse(&text).unwrap(), options).unwrap();
    Fixture { stack, dir, _ready: ready }
}

impl Fixture {
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.stack.log_path(name).unwrap()).unwrap()
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < until, "timed out waiting until {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process of this id exists and is no zombie.
fn lives(pid: u32) -> bool {
    let output =
        std::process::Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let stat = String::from_utf8_lossy(&output.stdout);
    !stat.trim().is_empty() && !stat.starts_with('Z')
}

#[test]
fn a_process_starts_becomes_ready_is_logged_and_stops() {
    let f = fixture(&[("a", "echo hello from $FROM; exec sleep 60")], |_| {});
    f.stack.start_all().unwrap();
    assert_eq!(f.stack.phase("a").unwrap(), Phase::Ready);
    let pid = f.stack.pid("a").unwrap();
    f.wait_for("the line is logged", || f.log("a").contains("hello from manifest"));
    f.stack.stop("a").unwrap();
    assert_eq!((f.stack.phase("a").unwrap(), f.stack.pid("a")), (Phase::Stopped, None));
    assert!(!lives(pid));
}

#[test]
fn a_tests_environment_wins_over_the_manifests() {
    let f = fixture(&[("a", "echo from $FROM; exec sleep 60")], |o| *o = o.clone().env("a", "FROM", "test"));
    f.stack.start_all().unwrap();
    f.wait_for("the line is logged", || f.log("a").contains("from test"));
}

#[test]
fn a_killed_process_stays_down_without_restarts_and_can_be_started_again() {
    let f = fixture(&[("a", "exec sleep 60")], |_| {});
    f.stack.start_all().unwrap();
    let first = f.stack.pid("a").unwrap();
    f.stack.kill("a", Signal::KILL).unwrap();
    f.stack.wait_exit("a", Duration::from_secs(5)).unwrap();
    f.wait_for(
        "the end is known",
        || matches!(f.stack.phase("a").unwrap(), Phase::Exited(how) if how.contains('9')),
    );
    f.stack.start("a").unwrap();
    f.stack.wait_ready("a").unwrap();
    assert_ne!(f.stack.pid("a").unwrap(), first);
}

#[test]
fn a_crashed_process_is_started_again_where_that_is_wanted() {
    let f = fixture(&[("a", "exec sleep 60")], |o| o.restart = true);
    f.stack.start_all().unwrap();
    let first = f.stack.pid("a").unwrap();
    f.stack.kill("a", Signal::KILL).unwrap();
    f.wait_for("it runs again", || f.stack.pid("a").is_some_and(|pid| pid != first));
    f.stack.wait_ready("a").unwrap();
    assert!(f.log("a").contains("starts again in 500 ms"), "{}", f.log("a"));
}

#[test]
fn a_stop_during_the_backoff_is_final() {
    let f = fixture(&[("a", "exec sleep 60")], |o| o.restart = true);
    f.stack.start_all().unwrap();
    f.stack.kill("a", Signal::KILL).unwrap();
    f.wait_for("the backoff has begun", || f.log("a").contains("starts again"));
    f.stack.stop("a").unwrap();
    assert_eq!((f.stack.phase("a").unwrap(), f.stack.pid("a")), (Phase::Stopped, None));
}

#[test]
fn a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_lines() {
    let f = fixture(&[("a", "echo no such model >&2; exit 7")], |_| {});
    // Nothing listens there, so that it cannot be ready before it ends.
    let text = "[[process]]\nname = \"a\"\ncommand = [\"sh\", \"-c\", \"echo no such model >&2; exit 7\"]\n\
                ready = { tcp = \"127.0.0.1:1\" }";
    let options = Options::isolated(f.dir.path().join("other"));
    let stack = Stack::new(f.dir.path(), Manifest::parse(text).unwrap(), options).unwrap();
    let error = stack.start_all().unwrap_err().to_string();
    assert!(error.contains("exit status: 7") && error.contains("no such model"), "{error}");
}

#[test]
fn stopping_takes_what_the_process_started_and_what_ignores_sigterm() {
    let script = "trap '' TERM; (trap '' TERM; sleep 60) & echo child $!; while :; do wait; done";
    let f = fixture(&[("a", script)], |o| o.stop_within = Duration::from_millis(300));
    f.stack.start_all().unwrap();
    f.wait_for("the child is known", || f.log("a").contains("child "));
    let log = f.log("a");
    let child: u32 = log.lines().next().unwrap().trim_start_matches("child ").parse().unwrap();
    f.stack.stop_all();
    f.wait_for("the child is gone", || !lives(child));
}

#[test]
fn what_a_crashed_process_left_behind_is_ended_too() {
    let f = fixture(&[("a", "sleep 60 & echo child $!; wait")], |_| {});
    f.stack.start_all().unwrap();
    f.wait_for("the child is known", || f.log("a").contains("child "));
    let child: u32 = f.log("a").trim().trim_start_matches("child ").parse().unwrap();
    f.stack.kill("a", Signal::KILL).unwrap();
    f.wait_for("the child is gone", || !lives(child));
}

#[test]
fn dropping_the_stack_stops_all() {
    let f = fixture(&[("a", "exec sleep 60"), ("b", "exec sleep 60")], |_| {});
    f.stack.start_all().unwrap();
    let pids = [f.stack.pid("a").unwrap(), f.stack.pid("b").unwrap()];
    drop(f.stack);
    assert!(!pids.into_iter().any(lives));
}

#[test]
fn the_guard_stops_what_a_dead_supervisor_left() {
    let guard = Guard::start().unwrap();
    use std::os::unix::process::CommandExt;
    let mut child = std::process::Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    // Forgotten without a word, as when this process had been killed.
    std::mem::forget(guard.watch(child.id()));
    let forgotten = guard.clone();
    std::thread::spawn(move || forgotten.end_input());
    let status = child.wait().unwrap();
    assert!(!status.success());
}
