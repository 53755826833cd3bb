//! A headless Chromium, driven over its debugging pipe.
//!
//! The pipe is two file descriptors that the shell opens on named pipes, so nothing listens on a
//! port, and no library is needed. Where no browser is installed there is nothing to drive: that is
//! said on the standard error, past what the test harness catches, and is a failure where
//! `SNAPLINE_BROWSER` says `required`, as in `.ci/run`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::scratch;

/// Longer than any test takes; a browser that hangs ends then, and with it the test.
const SECONDS: &str = "180";

/// A browser, and the one page it shows.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    directory: PathBuf,
    session: String,
    sent: u64,
    /// The addresses that were asked for since the page was last opened.
    pub(crate) requests: Vec<String>,
    /// Uncaught errors of scripts, and requests that the browser refused.
    pub(crate) errors: Vec<String>,
}

/// Which browser there is.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let mut all = std::env::split_paths(&path).flat_map(|at| names.map(|name| at.join(name)));
    std::env::var_os("CHROMIUM")
        .filter(|it| !it.is_empty())
        .map(PathBuf::from)
        .or_else(|| all.find(|at| at.is_file()))
}

impl Browser {
    /// Starts one, under a name of the test's own; `None` if there is none, which is said loudly.
    pub(crate) fn start(name: &str) -> Option<Self> {
        let Some(program) = program() else {
            let required = std::env::var("SNAPLINE_BROWSER").is_ok_and(|is| is == "required");
            assert!(!required, "no Chromium was found, and SNAPLINE_BROWSER requires one");
            // Past the harness, which shows nothing of a test that passes.
            let text = format!(
                "\nNOT TESTED: {name}: no Chromium was found in PATH or CHROMIUM; apt-get install chromium\n"
            );
            std::io::stderr()
                .write_all(text.as_bytes())
                .expect("the standard error can be written");
            return None;
        };
        let directory = PathBuf::from(scratch(&format!("browser-{name}")));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a scratch directory");
        let (into, out) = (directory.join("in"), directory.join("out"));
        let made = Command::new("mkfifo").args([&into, &out]).status().expect("mkfifo runs");
        assert!(made.success(), "named pipes can be made in {}", directory.display());
        // A sandbox needs what containers do not have; what is opened here are files of these
        // tests.
        let script = "exec timeout -k 5 \"$4\" \"$0\" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
                      --no-first-run --disable-background-networking --user-data-dir=\"$3\" --remote-debugging-pipe about:blank \
                      3<\"$1\" 4>\"$2\"";
        let child = Command::new("sh")
            .args(["-c", script])
            .args([program.as_path(), &into, &out, &directory.join("profile"), Path::new(SECONDS)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell runs");
        // The shell opens its ends in this order, and each waits for the other's.
        let to = File::options().write(true).open(&into).expect("the browser reads");
        let from = BufReader::new(File::open(&out).expect("the browser writes"));
        let (session, sent) = (String::new(), 0);
        let (requests, errors) = (Vec::new(), Vec::new());
        let mut browser = Self { child, to, from, directory, session, sent, requests, errors };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.size(1280, 800);
        Some(browser)
    }

    /// Asks the browser for something, and waits for the answer.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = Value::String(self.session.clone());
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser is running");
        loop {
            let mut heard = Vec::new();
            self.from.read_until(0, &mut heard).expect("the browser is running");
            assert_eq!(heard.pop(), Some(0), "the browser ended while it was asked for {method}");
            let heard: Value = serde_json::from_slice(&heard).expect("a message");
            if heard["id"] == self.sent {
                assert!(heard.get("error").is_none(), "{method}: {heard}");
                return heard["result"].clone();
            }
            let text = |value: &Value| value.to_string().chars().take(300).collect::<String>();
            match heard["method"].as_str() {
                Some("Network.requestWillBeSent") => {
                    let url = heard["params"]["request"]["url"].as_str().unwrap_or_default();
                    self.requests.push(url.to_owned());
                }
                Some("Runtime.exceptionThrown") => self.errors.push(text(&heard["params"])),
                Some("Log.entryAdded") => self.errors.push(text(&heard["params"]["entry"]["text"])),
                _ => {}
            }
        }
    }

    /// The size of the page, in pixels; a narrow one is a telephone.
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let mobile = width < 600;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Whether the user prefers dark colours.
    pub(crate) fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", &media);
    }

    /// Opens an address, and waits until it is there.
    pub(crate) fn open(&mut self, url: &str) {
        // Another page in between: an address that differs in its fragment alone would not be
        // opened anew.
        self.call("Page.navigate", &json!({ "url": "about:blank" }));
        self.settle();
        self.requests.clear();
        self.errors.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        self.settle();
    }

    fn settle(&mut self) {
        while self.eval("document.readyState") != "complete" {}
    }

    /// Opens a file, with a fragment at the end of its address.
    pub(crate) fn open_file(&mut self, path: &str, fragment: &str) {
        self.open(&format!("file://{path}{fragment}"));
    }

    /// What a JavaScript expression comes to.
    #[track_caller]
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of an element, by its id.
    #[track_caller]
    pub(crate) fn text(&mut self, id: &str) -> String {
        let text = self.eval(&format!("document.getElementById({id:?}).innerText"));
        text.as_str().unwrap_or_else(|| panic!("no element has the id {id}")).to_owned()
    }

    /// Whether an element can be seen.
    #[track_caller]
    pub(crate) fn sees(&mut self, id: &str) -> bool {
        let seen = format!(
            "(() => {{ const at = document.getElementById({id:?}).getBoundingClientRect(); \
             return at.width > 0 && at.height > 0 && at.top < innerHeight && at.left < innerWidth; }})()"
        );
        self.eval(&seen) == true
    }

    /// Presses keys, one after the other: letters, or the names of others such as `Enter`.
    pub(crate) fn press(&mut self, keys: &[&str]) {
        for key in keys {
            let mut down = json!({ "type": "keyDown", "key": key });
            if key.chars().count() == 1 {
                down["text"] = Value::String((*key).to_owned());
            }
            self.call("Input.dispatchKeyEvent", &down);
            self.call("Input.dispatchKeyEvent", &json!({ "type": "keyUp", "key": key }));
        }
    }

    /// Keeps a picture of what is seen, for people.
    pub(crate) fn picture(&mut self, name: &str) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = decoded(shot["data"].as_str().expect("a picture"));
        std::fs::write(scratch(name), &bytes).expect("the scratch directory is writable");
        bytes
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.to.write_all(b"{\"id\":999999,\"method\":\"Browser.close\"}\0");
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Bytes from base64, as the browser sends pictures.
fn decoded(text: &str) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut waiting = VecDeque::new();
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = letters.iter().position(|other| *other == letter).expect("base64");
        waiting.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
        if waiting.len() >= 8 {
            bytes.push(waiting.drain(..8).fold(0, |byte, bit| byte << 1 | u8::from(bit)));
        }
    }
    bytes
}
