//! `shoal chat`: a conversation in the terminal, or line by line from a pipe.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};
use shoal_base::{Generate, GenerateError, Prompt, Request};
use shoal_engine::LocalEngine;

use crate::failure::{Code, Failure, at_path};
use crate::generation::{self, Answer};
use crate::models::{self, ModelArgs};
use crate::sampling::SamplingArgs;
use crate::session::Session;
use crate::{interrupt, output};

/// Lines typed in earlier conversations, in the data folder.
const HISTORY: &str = "chat_history";
const HISTORY_LINES_MAX: usize = 1000;
const HELP: &str = "\
/help         this list
/system TEXT  what the model is told first; without TEXT, nothing
/reset        forget the conversation
/save FILE    write the conversation as JSON
/exit         end; so does Ctrl-D
Ctrl-C        stop an answer";

/// Arguments of `shoal chat`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// A smaller model with the same tokenizer that guesses ahead; changes speed only
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,

    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let mut request = Request::new(Prompt::Text(String::new()));
    args.sampling.apply(&mut request)?;
    let engine = models::load(session, &args.model, args.draft.as_deref())?;
    if !engine.card().chat {
        let hint = "; `shoal run` continues plain text";
        let error = Failure::from(GenerateError::NoChatTemplate);
        return Err(Failure::new(error.code, format!("{}{hint}", error.message)));
    }
    let mut chat = Chat {
        engine,
        request,
        system: args.system.clone(),
        messages: Vec::new(),
        json: session.json,
        is_terminal: io::stdin().is_terminal(),
    };
    let mut lines = Lines::open(session, chat.is_terminal)?;
    if chat.is_terminal && !session.json {
        output::note(&format!("{}; /help shows what you can do", args.model.name.model));
    }
    while let Some(line) = lines.next()? {
        if !chat.take(line.trim())? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A conversation.
struct Chat {
    engine: LocalEngine,
    request: Request,
    system: Option<String>,
    messages: Vec<Value>,
    json: bool,
    is_terminal: bool,
}

impl Chat {
    /// Takes a line; `false` ends the conversation.
    fn take(&mut self, line: &str) -> Result<bool, Failure> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "" => {}
            "/exit" => return Ok(false),
            "/help" => output::note(HELP),
            "/reset" => self.messages.clear(),
            "/system" => self.system = (!rest.is_empty()).then(|| rest.to_owned()),
            "/save" => {
                let result = self.save(rest);
                self.forgive(result)?;
            }
            _ if word.starts_with('/') => {
                let unknown = Failure::usage(format!("{word} is no command; /help lists them"));
                self.forgive(Err(unknown))?;
            }
            _ => {
                let result = self.answer(line);
                self.forgive(result)?;
            }
        }
        Ok(true)
    }

    /// At a terminal, what went wrong is shown and the conversation goes on; in a pipe it ends.
    fn forgive(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        match result {
            Err(failure) if self.is_terminal && failure.code != Code::OutputClosed => {
                output::failure(&failure, self.json);
                Ok(())
            }
            result => result,
        }
    }

    fn answer(&mut self, text: &str) -> Result<(), Failure> {
        interrupt::clear();
        self.messages.push(json!({ "role": "user", "content": text }));
        let answer = self.generate();
        match answer {
            Ok(answer) => {
                // What was said before Ctrl-C stays said.
                self.messages.push(json!({ "role": "assistant", "content": answer.text }));
                match self.json {
                    true => output::json(&answer),
                    false => output::line(""),
                }
            }
            Err(failure) => {
                self.messages.pop();
                Err(failure)
            }
        }
    }

    fn generate(&self) -> Result<Answer, Failure> {
        let prompt = Prompt::Chat {
            messages: self.conversation(),
            tools: Vec::new(),
            variables: serde_json::Map::new(),
            add_generation_prompt: true,
        };
        let request = Request { prompt, ..self.request.clone() };
        match self.json {
            true => generation::run(&self.engine, request, |_| Ok(())),
            false => generation::run(&self.engine, request, output::text),
        }
    }

    fn conversation(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        system.chain(self.messages.iter().cloned()).collect()
    }

    /// Writes a new file; one that is there stays as it is.
    fn save(&self, path: &str) -> Result<(), Failure> {
        use std::io::Write as _;

        if path.is_empty() {
            return Err(Failure::usage("/save needs the name of a file"));
        }
        let path = Path::new(path);
        let mut text = serde_json::to_string_pretty(&self.conversation()).expect("plain JSON");
        text.push('\n');
        let file = std::fs::File::create_new(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| at_path(path, &error))?;
        output::note(&format!("saved {}", path.display()));
        Ok(())
    }
}

/// Where lines come from.
enum Lines {
    Terminal { editor: Box<DefaultEditor>, history: std::path::PathBuf },
    Pipe(io::Lines<io::StdinLock<'static>>),
}

impl Lines {
    fn open(session: &Session, is_terminal: bool) -> Result<Self, Failure> {
        if !is_terminal {
            return Ok(Self::Pipe(io::stdin().lines()));
        }
        let history = session.home.join(HISTORY);
        let config = rustyline::Config::builder()
            .max_history_size(HISTORY_LINES_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| of_editor(&error))?;
        let editor = DefaultEditor::with_config(config.build());
        let mut editor = Box::new(editor.map_err(|error| of_editor(&error))?);
        // There is none the first time.
        let _ = editor.load_history(&history);
        Ok(Self::Terminal { editor, history })
    }

    /// The next line; none at the end.
    fn next(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Self::Pipe(lines) => match lines.next() {
                None => Ok(None),
                Some(Ok(line)) => Ok(Some(line)),
                Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(Failure::bad_input("standard input: not UTF-8"))
                }
                Some(Err(error)) => Err(at_path(Path::new("standard input"), &error)),
            },
            Self::Terminal { editor, history } => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        if !line.trim().is_empty() {
                            // Lost history is no reason to lose the conversation.
                            let _ = editor.add_history_entry(&line);
                            let _ = editor.append_history(history);
                        }
                        return Ok(Some(line));
                    }
                    Err(ReadlineError::Interrupted) => output::note("/exit or Ctrl-D ends"),
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(of_editor(&error)),
                }
            },
        }
    }
}

fn of_editor(error: &ReadlineError) -> Failure {
    Failure::new(Code::Failed, format!("terminal: {error}"))
}
