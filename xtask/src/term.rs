//! What the commands write on the terminal: whole lines, and one status line below them that is redrawn in
//! place while work goes on. Colours appear only where a terminal (or `CLICOLOR_FORCE`) wants them.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// Emphasis.
pub const BOLD: Style = Style::new().bold();
/// What may be overlooked.
pub const DIM: Style = Style::new().dimmed();
/// What went well.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// What needs a look.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// What failed.
pub const RED: Style = AnsiColor::Red.on_default().bold();
/// The colours that tell processes apart, in the order of the manifest.
pub const PROCESS_COLOURS: [Style; 6] = [
    AnsiColor::Cyan.on_default(),
    AnsiColor::Green.on_default(),
    AnsiColor::Magenta.on_default(),
    AnsiColor::Blue.on_default(),
    AnsiColor::Yellow.on_default(),
    AnsiColor::BrightCyan.on_default(),
];

/// The status line that is on the screen now, if any.
static STATUS: Mutex<Option<String>> = Mutex::new(None);

fn status_lock() -> MutexGuard<'static, Option<String>> {
    STATUS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `text` in `style`.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether standard output is a terminal that can redraw a line.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The terminal's width in columns; 100 where there is none.
pub fn width() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 20 => usize::from(size.ws_col),
        _ => 100,
    }
}

/// Writes a line, above the status line if there is one.
pub fn say(line: impl std::fmt::Display) {
    let status = status_lock();
    let mut out = anstream::stdout().lock();
    // A closed pipe (`| head`) must not end a process that has children to stop.
    let _ = match &*status {
        Some(shown) => write!(out, "\r\x1b[2K{line}\n{shown}"),
        None => writeln!(out, "{line}"),
    };
    let _ = out.flush();
}

/// Writes text as it is, without a line end; only for output that streams in.
pub fn stream(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Replaces the status line; `None` takes it away. Does nothing where there is no terminal.
pub fn status(text: Option<&str>) {
    if !is_terminal() {
        return;
    }
    let mut shown = status_lock();
    let mut out = anstream::stdout().lock();
    *shown = text.map(|text| paint(DIM, shorten(text, width() - 1)));
    let _ = write!(out, "\r\x1b[2K{}", shown.as_deref().unwrap_or(""));
    let _ = out.flush();
}

/// `text` on one line of at most `columns` characters, with an ellipsis where something was left out.
pub fn shorten(text: &str, columns: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= columns {
        return line;
    }
    let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// A duration as people read it: `180 ms`, `4.2 s`, `3 min 05 s`.
pub fn elapsed(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        s => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(elapsed(Duration::from_millis(180)), "180 ms");
        assert_eq!(elapsed(Duration::from_millis(4_240)), "4.2 s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3 min 05 s");
    }

    #[test]
    fn a_long_line_is_shortened_and_a_tab_is_a_space() {
        assert_eq!(shorten("one\ttwo three", 8), "one two…");
        assert_eq!(shorten("short", 8), "short");
    }
}
