//! The terminal: keys in, cells out, and as it was before when the program ends in whatever way.

use std::{
    io::{self, IsTerminal, Write},
    panic,
    sync::mpsc::{Receiver, TryRecvError},
    time::Duration,
};

use anyhow::{Context, bail};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        QueueableCommand, cursor,
        event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
        terminal,
    },
};

use super::{
    screen::draw,
    source::TopEvent,
    state::{TopKey, TopState},
};
use crate::text_table::TextStyle;

/// The screen is drawn again after this time at the latest, since ages grow.
const REDRAW: Duration = Duration::from_millis(250);
/// Leaves the alternate screen, and shows the cursor.
const LEAVE: &[u8] = b"\x1b[?1049l\x1b[?25h";

/// Whether keys can be read and cells be drawn.
pub fn is_interactive(style: TextStyle) -> bool {
    style.is_terminal() && io::stdin().is_terminal()
}

/// A terminal that shows cells. It is as it was before when this is dropped, and before the message of a panic.
pub struct TerminalSession<W: Write> {
    terminal: Terminal<CrosstermBackend<W>>,
}

impl<W: Write> TerminalSession<W> {
    /// Enters the alternate screen.
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn start(mut output: W) -> io::Result<TerminalSession<W>> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            restore();
            before(information);
        }));
        terminal::enable_raw_mode()?;
        output.queue(terminal::EnterAlternateScreen)?.queue(cursor::Hide)?.flush()?;
        Ok(TerminalSession { terminal: Terminal::new(CrosstermBackend::new(output))? })
    }

    /// Shows the state until a key or a signal ends it.
    ///
    /// # Errors
    /// When the terminal is gone, or nothing observes any more.
    pub fn run(&mut self, state: &mut TopState, observations: &Receiver<TopEvent>) -> anyhow::Result<()> {
        const GONE: &str = "using the terminal";
        while !state.has_ended() {
            // The size is that of this moment.
            self.terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).context(GONE)?;
            if event::poll(REDRAW).context(GONE)?
                && let Some(key) = key(&event::read().context(GONE)?)
            {
                state.press(key);
            }
            loop {
                match observations.try_recv() {
                    Ok(observation) => state.observe(observation),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => bail!("the observation has ended"),
                }
            }
        }
        Ok(())
    }
}

impl<W: Write> Drop for TerminalSession<W> {
    fn drop(&mut self) {
        // The hook has done it. A second time would move the cursor back over the message.
        if !std::thread::panicking() {
            restore();
        }
    }
}

/// Makes the terminal what it was. Without the lock of standard output, which a thread that panics may lack.
fn restore() {
    let _ = terminal::disable_raw_mode();
    let _ = rustix::io::write(rustix::stdio::stdout(), LEAVE);
}

/// The key of an event.
fn key(event: &Event) -> Option<TopKey> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => TopKey::Interrupt,
        KeyCode::Char(character) => TopKey::Char(character),
        KeyCode::Enter => TopKey::Enter,
        KeyCode::Esc => TopKey::Escape,
        KeyCode::Backspace => TopKey::Backspace,
        KeyCode::Up => TopKey::Move(-1),
        KeyCode::Down => TopKey::Move(1),
        KeyCode::PageUp => TopKey::Page(-1),
        KeyCode::PageDown => TopKey::Page(1),
        KeyCode::Home => TopKey::First,
        KeyCode::End => TopKey::Last,
        _ => return None,
    })
}
