//! A page about a running job, for a browser. It shows what is late and why, restarts and the next
//! try, a graph of operators with their rates and load, the output delay, and checkpoints.
//!
//! It reads what [`crate::JobHandle::status`] reads, from a thread of its own, and nothing waits
//! for it. [`view`] has the format of `/status`, [`why`] the reasoning, [`watch`] what takes two
//! samples to see. `page.html` is all there is for the browser.

mod view;
mod watch;
mod why;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::plan::guarantee::Guarantee;
use crate::plan::warnings::SettingWarning;
use crate::runtime::handle::JobHandle;
use crate::runtime::status::StatusBoard;
use snapline_http::pages::{Answer, Listen, Server, Site, Verb};
use watch::TaskHistory;

const PAGE: &str = include_str!("page.html");

/// Where the page of [`crate::JobHandle::dashboard`] is served. The default is a free port of
/// 127.0.0.1: only this machine's users can connect, and of them only those with the address, which
/// holds a random token.
///
/// The page is not encrypted. To view it from elsewhere, forward the port (`ssh -L`), or put a TLS
/// proxy in front.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Dashboard {
    listen: Listen,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self { listen: Listen::loopback(0) }
    }
}

impl Dashboard {
    /// On a free port of 127.0.0.1.
    pub fn new() -> Self {
        Self::default()
    }

    /// On this port; 0 is a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.listen.address.set_port(port);
        self
    }

    /// On this address of the machine. Any address but loopback lets others connect, and the token
    /// and all that is shown travel in the clear. Another name than the address itself is served
    /// only if it is given to [`Self::host`].
    pub fn address(mut self, address: IpAddr) -> Self {
        self.listen.address = SocketAddr::new(address, self.listen.address.port());
        self
    }

    /// Answers to this `Host` header too, with its port unless it is 80, such as
    /// `status.example.org:8080`: the name of a proxy, or of the machine. All others than the
    /// address itself are refused, so that no page on the web can ask in its reader's name.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.listen.hosts.push(host.into());
        self
    }

    /// Serves the page `metrics` at `/metrics` too, without the token, for Prometheus, which cannot
    /// know it. Every client that can connect may read the names of the job and its operators, and
    /// their figures. The page itself still requires the token.
    ///
    /// ```text
    /// scrape_configs:
    ///   - job_name: snapline
    ///     static_configs: [{ targets: ["127.0.0.1:9464"] }]   # Dashboard::new().port(9464).open_metrics()
    /// ```
    #[cfg(feature = "prometheus")]
    pub fn open_metrics(mut self) -> Self {
        self.listen.open = vec!["metrics"];
        self
    }

    pub(crate) fn serve(
        &self,
        job: &str,
        guarantee: &Guarantee,
        warnings: &[SettingWarning],
        board: StatusBoard,
    ) -> io::Result<DashboardServer> {
        #[cfg(feature = "prometheus")]
        let metrics = {
            let mut metrics = crate::metrics::Prometheus::new();
            metrics.watch_board(job, board.clone());
            metrics
        };
        let promise = Promise {
            job: job.to_owned(),
            guarantee: guarantee.to_string(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        let watch = TaskHistory::default();
        let pages = Pages {
            promise,
            board,
            watch,
            #[cfg(feature = "prometheus")]
            metrics,
        };
        Ok(DashboardServer(Server::start("snapline-dashboard", &self.listen, pages)?))
    }
}

/// A page that is being served. It ends when this is dropped, not when the job does: then it shows
/// how the job ended.
#[derive(Debug)]
#[must_use = "the page is served only as long as this lives"]
pub struct DashboardServer(Server);

impl DashboardServer {
    /// The page's address, with the token that it requires.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The address that was bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// What is known of a job before it runs.
struct Promise {
    job: String,
    guarantee: String,
    warnings: Vec<String>,
}

struct Pages {
    promise: Promise,
    board: StatusBoard,
    watch: TaskHistory,
    #[cfg(feature = "prometheus")]
    metrics: crate::metrics::Prometheus,
}

impl Site for Pages {
    fn verb(&self, page: &str) -> Option<Verb> {
        let known = matches!(page, "" | "status");
        let metrics = cfg!(feature = "prometheus") && page == "metrics";
        (known || metrics).then_some(Verb::Get)
    }

    fn answer(&mut self, page: &str, _body: &[u8]) -> Answer {
        match page {
            "status" => {
                let status = self.board.read();
                Answer::json(view::view(&self.promise, &status, &self.watch))
            }
            #[cfg(feature = "prometheus")]
            "metrics" => Answer {
                good: true,
                media: crate::metrics::Prometheus::CONTENT_TYPE,
                body: self.metrics.render(),
            },
            _ => Answer::html(PAGE.to_owned()),
        }
    }

    fn tick(&mut self) {
        let (attempt, tasks) = self.board.tasks();
        self.watch.look(Instant::now(), attempt, &tasks);
    }
}

impl JobHandle {
    /// Serves a page about the job, until the returned value is dropped. It shows what is late and
    /// why, restarts and the next try, a graph of operators with their rates and load, the output
    /// delay, and checkpoints. The page is read-only. The job does not wait for it, and a failure
    /// of the dashboard does not affect the job.
    ///
    /// It is a method of the handle rather than a setting of the job. The address is known only
    /// when it is bound, and a running job must not fail, or stop, because a port is taken: that is
    /// for you to decide.
    ///
    /// ```
    /// # use snapline::connect::{Generator, MemorySink};
    /// # use snapline::{Dashboard, Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (flow, sink) = (Dataflow::new("for-ever"), MemorySink::new());
    /// # flow.source("numbers", Generator::new(None, |number| number).rate(1_000)).sink("out", sink.clone());
    /// # let job = flow.build(JobConfig::new())?;
    /// let handle = job.spawn()?;
    /// let dashboard = handle.dashboard(Dashboard::new())?;
    /// println!("{}", dashboard.url()); // http://127.0.0.1:49152/ec3c0a.../
    /// # handle.cancel();
    /// # handle.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the address cannot be bound, or the operating system provides no thread or no randomness.
    /// The job runs on.
    pub fn dashboard(&self, dashboard: Dashboard) -> io::Result<DashboardServer> {
        dashboard.serve(&self.name, &self.guarantee, &self.warnings, self.board.clone())
    }
}
