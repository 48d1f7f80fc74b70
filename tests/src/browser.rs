//! A headless Chromium in a subscriber's namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::lab::Subscriber;
use crate::wait::until;

/// Where the driver's packages are, if not under `target/browser`.
const MODULES: &str = "BITMESH_BROWSER_MODULES";
/// How long the browser may take to end.
const ENDING: Duration = Duration::from_secs(20);
/// Which browser, if not Debian's.
const CHROMIUM: &str = "BITMESH_CHROMIUM";

/// The browser; ended on drop.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pictures: PathBuf,
    taken: u32,
}

impl Browser {
    /// Starts it where the subscriber is. Its pictures get this name.
    ///
    /// # Errors
    ///
    /// Fails without Node, the driver's packages or Chromium.
    pub fn start(at: &Subscriber, name: &str) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let modules = std::env::var_os(MODULES)
            .map_or_else(|| root.join("target/browser/node_modules"), PathBuf::from);
        ensure!(modules.is_dir(), "no driver: run `cargo xtask test browser`");
        let chromium = std::env::var_os(CHROMIUM).unwrap_or_else(|| "/usr/bin/chromium".into());
        let pictures = root.join("target/browser/pictures").join(name);
        std::fs::create_dir_all(&pictures)?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", at.namespace.name())).arg("node");
        command.arg(root.join("tests/browser/driver.cjs"));
        command.env("NODE_PATH", modules).env(CHROMIUM, chromium);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start node")?;
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no answers")?);
        let mut browser = Self { child, asks, answers, pictures, taken: 0 };
        browser.answer().context("the browser does not start")?;
        Ok(browser)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("the driver ended")?;
        match answer.get("error") {
            Some(error) => bail!("{error}"),
            None => Ok(answer["value"].clone()),
        }
    }

    fn ask(&mut self, question: &Value) -> Result<Value> {
        let asks = self.asks.as_mut().context("the driver ended")?;
        writeln!(asks, "{question}")?;
        self.answer().with_context(|| question.to_string())
    }

    /// A page in a new profile, with Playwright's options of a context.
    ///
    /// # Errors
    ///
    /// Fails if the browser does.
    pub fn open(&mut self, page: &'static str, options: &Value) -> Result<Page<'_>> {
        self.ask(&json!({"open": page, "options": options}))?;
        Ok(self.page(page))
    }

    /// The same, where this script runs in each page before the page's own.
    ///
    /// # Errors
    ///
    /// Fails if the browser does.
    pub fn open_after(
        &mut self,
        before: &str,
        page: &'static str,
        options: &Value,
    ) -> Result<Page<'_>> {
        self.ask(&json!({"open": page, "options": options, "before": before}))?;
        Ok(self.page(page))
    }

    /// Another page in the profile of one.
    ///
    /// # Errors
    ///
    /// Fails if the browser does.
    pub fn tab(&mut self, page: &'static str, of: &str) -> Result<Page<'_>> {
        self.ask(&json!({"tab": page, "of": of}))?;
        Ok(self.page(page))
    }

    /// A page that is open.
    pub fn page(&mut self, name: &'static str) -> Page<'_> {
        Page { browser: self, name }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends it; it may have hung before.
        drop(self.asks.take());
        let deadline = Instant::now() + ENDING;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One page. What it waits for, it waits for half a minute.
#[derive(Debug)]
pub struct Page<'a> {
    browser: &'a mut Browser,
    name: &'static str,
}

impl Page<'_> {
    fn call(&mut self, method: &str, args: &Value) -> Result<Value> {
        self.browser.ask(&json!({"page": self.name, "call": method, "args": args}))
    }

    /// Goes there; gives where it came to.
    ///
    /// # Errors
    ///
    /// Fails if nothing answers.
    pub fn goto(&mut self, url: &str) -> Result<String> {
        let answer = self.call("goto", &json!([url]))?;
        Ok(answer["url"].as_str().context("no address")?.to_owned())
    }

    /// Loads it again.
    ///
    /// # Errors
    ///
    /// Fails if nothing answers.
    pub fn reload(&mut self) -> Result<()> {
        self.call("reload", &json!([])).map(drop)
    }

    /// Presses what this selects, once it can be.
    ///
    /// # Errors
    ///
    /// Fails if it can't.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        self.call("click", &json!([selector])).map(drop)
    }

    /// Types into a field.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn fill(&mut self, selector: &str, text: &str) -> Result<()> {
        self.call("fill", &json!([selector, text])).map(drop)
    }

    /// The text of an element.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn text(&mut self, selector: &str) -> Result<String> {
        let text = self.call("textContent", &json!([selector]))?;
        Ok(text.as_str().with_context(|| format!("{selector} has no text"))?.to_owned())
    }

    /// What an expression gives in the page.
    ///
    /// # Errors
    ///
    /// Fails if it throws.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        self.call("evaluate", &json!([expression]))
    }

    /// Waits until an expression holds in the page.
    ///
    /// # Errors
    ///
    /// Fails if it does not come to hold, with what the page shows.
    pub fn until(&mut self, expression: &str) -> Result<()> {
        let waited = until(expression, || Ok(self.value(expression)? == true));
        self.or_shown(waited)
    }

    /// A failure with what the page shows.
    fn or_shown(&mut self, waited: Result<()>) -> Result<()> {
        waited.map_err(|error| {
            let shown = self.call("innerText", &json!(["body"])).unwrap_or_default();
            error.context(shown.to_string())
        })
    }

    /// Waits until an element is shown.
    ///
    /// # Errors
    ///
    /// Fails if it is not.
    pub fn see(&mut self, selector: &str) -> Result<()> {
        let waited = self.call("waitForSelector", &json!([selector, {"state": "visible"}]));
        self.or_shown(waited.map(drop))
    }

    /// The file that a link gives: its name and its text.
    ///
    /// # Errors
    ///
    /// Fails if it gives none.
    pub fn save(&mut self, selector: &str) -> Result<(String, String)> {
        let saved = self.browser.ask(&json!({"save": self.name, "selector": selector}))?;
        let text = |key: &str| saved[key].as_str().map(str::to_owned).context("no file");
        Ok((text("name")?, text("text")?))
    }

    /// Axe has nothing to complain of.
    ///
    /// # Errors
    ///
    /// Fails with what it complains of.
    pub fn is_clean(&mut self) -> Result<()> {
        let complaints = self.browser.ask(&json!({"axe": self.name}))?;
        ensure!(complaints == json!([]), "axe: {complaints}");
        Ok(())
    }

    /// Takes pictures of the page: phone and desktop, light and dark. It must fit each, and be
    /// clean in each.
    ///
    /// # Errors
    ///
    /// Fails if they can't be written.
    pub fn pictures(&mut self, step: &str) -> Result<()> {
        self.shots(step, true)
    }

    /// The same of a page that runs no scripts, so that axe can't look at it.
    ///
    /// # Errors
    ///
    /// As [`Self::pictures`].
    pub fn plain_pictures(&mut self, step: &str) -> Result<()> {
        self.shots(step, false)
    }

    fn shots(&mut self, step: &str, with_axe: bool) -> Result<()> {
        self.browser.taken += 1;
        let number = self.browser.taken;
        for (size, width, height) in [("phone", 320, 640), ("desktop", 1_280, 800)] {
            self.call("setViewportSize", &json!([{"width": width, "height": height}]))?;
            for scheme in ["light", "dark"] {
                self.call("emulateMedia", &json!([{"colorScheme": scheme}]))?;
                let file = format!("{number:02}-{step}-{size}-{scheme}.png");
                let path = self.browser.pictures.join(file);
                self.call("screenshot", &json!([{"path": path, "fullPage": true}]))?;
                if with_axe {
                    self.is_clean().with_context(|| format!("{step}, {size}, {scheme}"))?;
                }
            }
            let wide = self.value("document.documentElement.scrollWidth > innerWidth")?;
            ensure!(wide == false, "{step}: the page is wider than {width} px");
        }
        Ok(())
    }
}
