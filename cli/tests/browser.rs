//! The page of `snapline trace render` in a real browser: it opens, steps, finds the violation, and
//! asks for nothing.

mod common;

use common::browser::Browser;
use common::{file, scratch, snapline};
use serde_json::Value;
use snapline::connect::{Generator, MemorySink};
use snapline::trace::MemoryTrace;
use snapline::{Dataflow, JobConfig};

/// Renders the shortest counterexample of a mutant; gives the page's path.
fn page(test: &str, mutant: &str, more: &[&str]) -> String {
    let directory = scratch(&format!("browser-{test}-trace"));
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    snapline(&["mutants", mutant, "--trace", &directory]).is(0, &[mutant]);
    let (trace, page) =
        (format!("{directory}/{mutant}.json"), scratch(&format!("browser-{test}.html")));
    let args = [&["trace", "render", &trace, "-o", &page], more].concat();
    snapline(&args).is(0, &[" steps, "]);
    page
}

fn file_of(page: &str) -> String {
    format!("file://{page}")
}

#[test]
fn a_counterexample_is_walked_by_keys() {
    let Some(mut browser) = Browser::start("walk") else { return };
    let page = page("walk", "commit-at-barrier", &[]);
    browser.open_file(&page, "");
    assert!(!browser.sees("wrong"), "{}", browser.text("wrong"));
    assert_eq!(browser.text("title"), "commit-at-barrier");
    assert!(browser.text("breach").contains("Step 5 breaks L4 commit after complete"));
    assert_eq!(browser.text("where"), "step 0 of 5");
    assert!(browser.text("step").contains("one rule of the protocol is wrong on purpose"));

    browser.press(&["j", "ArrowRight", "ArrowDown"]);
    assert_eq!(browser.text("where"), "step 3 of 5");
    assert_eq!(browser.eval("location.hash"), "#step=3");
    assert!(browser.text("step").contains("the next checkpoint is due"));
    assert!(!browser.sees("law"), "nothing is broken yet");
    assert_eq!(browser.eval("document.querySelectorAll('#rows .here').length"), 1);
    assert!(browser.text("state").contains("under way"), "what changed is shown");
    browser.press(&["k"]);
    assert_eq!(browser.text("where"), "step 2 of 5");
    browser.picture("page-light.png");

    // Where the wrong rule shows first, which the shortest trace ends with.
    browser.press(&["p"]);
    assert_eq!(browser.text("where"), "step 5 of 5");
    let shows = browser.text("difference");
    assert!(
        shows.contains("Here the wrong rule shows")
            && shows.contains("in the correct protocol: out prepares transaction 1"),
        "{shows}"
    );
    browser.press(&["k"]);
    browser.press(&["v"]);
    assert_eq!(browser.text("where"), "step 5 of 5");
    assert!(browser.sees("law"));
    assert!(browser.text("law").contains("Here L4 commit after complete is broken"));
    // The law in full, after a click on its link.
    browser.eval("document.querySelector('#law summary').click()");
    assert!(
        browser
            .text("law")
            .contains("A transaction is committed only when a completed checkpoint holds it")
    );
    assert!(browser.text("clause").contains("SPEC 5.2"));
    assert!(browser.text("commands").contains("snapline trace replay --production"));
    assert!(browser.eval("document.querySelectorAll('#rows .broken-edge').length") == 1);
    browser.picture("page-violation.png");

    browser.press(&["Home"]);
    assert_eq!(browser.text("where"), "step 0 of 5");
    browser.press(&["/"]);
    browser.call("Input.insertText", &serde_json::json!({ "text": "barrier 1" }));
    assert_eq!(browser.text("found"), "2");
    browser.press(&["Enter"]);
    assert_eq!(browser.text("where"), "step 4 of 5");
    browser.press(&["n"]);
    assert_eq!(browser.text("where"), "step 5 of 5");
    browser.press(&["Escape"]);

    // Only what storage does is left in the picture.
    let rows = |browser: &mut Browser| browser.eval("rows.length").as_u64();
    let all = rows(&mut browser);
    browser.eval("(() => { const by = document.getElementById('by-kind'); by.value = 'store'; by.dispatchEvent(new Event('change')); })()");
    assert_eq!((all, rows(&mut browser)), (Some(6), Some(2)));
    browser.press(&["Escape"]);
    assert_eq!(rows(&mut browser), all);

    // A fragment points to a step, also while the page is open.
    browser.open_file(&page, "#step=4");
    assert_eq!(browser.text("where"), "step 4 of 5");
    browser.eval("location.hash = '#step=1'");
    browser.eval("new Promise((done) => setTimeout(done, 50))");
    assert_eq!(browser.text("where"), "step 1 of 5");
    browser.press(&["?"]);
    assert!(browser.sees("keys") && browser.text("keys").contains("yellow edge"));

    assert_eq!(browser.requests, [file_of(&page)], "no request leaves the page");
    assert_eq!(browser.errors, [""; 0]);
}

/// A reader of a clause keeps the picture, the step, and the open panels while going on.
#[test]
fn a_clause_is_read_beside_the_trace_and_leads_to_others() {
    let Some(mut browser) = Browser::start("clauses") else { return };
    let page = page("clauses", "commit-at-barrier", &[]);
    browser.open_file(&page, "#step=3");
    let open =
        |browser: &mut Browser| browser.eval("document.querySelector('#clause details').open");
    assert_eq!(open(&mut browser), false);
    browser.eval("document.querySelector('#clause summary').click()");
    assert_eq!(open(&mut browser), true);
    let text = browser.text("clause");
    assert!(
        text.contains("SPEC 4.3") && text.contains("the newest complete checkpoint, 8.3"),
        "{text}"
    );
    assert!(!text.contains("SPEC 8.3"), "{text}");
    let other = "[...document.querySelectorAll('#clause button')].find((it) => it.textContent === '8.3').click()";
    browser.eval(other);
    let text = browser.text("clause");
    assert!(text.contains("SPEC 8.3") && text.contains("SPEC 4.3"), "{text}");
    assert!(browser.sees("rows") && browser.text("where") == "step 3 of 5");
    browser.eval(other);
    assert!(!browser.text("clause").contains("SPEC 8.3"));
    // The next step's clause is open too, until it is closed.
    browser.press(&["j"]);
    assert_eq!(browser.text("where"), "step 4 of 5");
    assert_eq!(open(&mut browser), true);
    browser.eval("document.querySelector('#clause summary').click()");
    browser.press(&["k"]);
    assert_eq!((open(&mut browser), browser.text("where").as_str()), (false.into(), "step 3 of 5"));
    assert_eq!(browser.requests, [file_of(&page)], "no request leaves the page");
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn what_production_came_to_is_marked_at_its_step() {
    let Some(mut browser) = Browser::start("production") else { return };
    let page = page("production", "commit-at-barrier", &["--production"]);
    browser.open_file(&page, "");
    assert_eq!(browser.eval("document.querySelectorAll('#rows .production-edge').length"), 1);
    assert!(!browser.sees("on-production"), "the outcome belongs to another step");
    browser.eval("document.querySelector('#commands .produced button').click()");
    assert_eq!(browser.text("where"), "step 5 of 5");
    let shown = browser.text("on-production");
    assert!(shown.contains("On production code") && shown.contains("is broken"), "{shown}");
    assert!(browser.text("commands").contains("the job ends, and its output is correct"));
    browser.picture("page-production.png");
    browser.press(&["k"]);
    assert!(!browser.sees("on-production"));
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn it_plays_and_is_read_on_a_telephone_and_in_the_dark() {
    let Some(mut browser) = Browser::start("telephone") else { return };
    let page = page("telephone", "no-alignment", &[]);
    browser.dark(true);
    browser.size(390, 844);
    browser.open_file(&page, "#step=6");
    assert_eq!(
        browser.eval("document.documentElement.scrollWidth"),
        390,
        "no element is wider than the page"
    );
    for id in ["title", "breach", "next", "view", "step"] {
        assert!(browser.sees(id), "{id}");
    }
    assert!(browser.text("step").contains("holds its input"), "alignment is shown");
    assert!(browser.eval("document.querySelectorAll('#rows .hold').length").as_u64() > Some(0));
    let ground = browser.eval("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(20, 23, 26)");
    browser.picture("page-telephone.png");
    browser.size(1280, 800);
    browser.picture("page-dark.png");
    browser.press(&["d"]);
    assert_eq!(
        browser.eval("getComputedStyle(document.body).backgroundColor"),
        "rgb(250, 250, 248)"
    );
    browser.eval("document.getElementById('play').click()");
    browser.eval("new Promise((done) => setTimeout(done, 1200))");
    assert_eq!(browser.text("where"), "step 7 of 13");
    assert_eq!(browser.requests.len(), 1);
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn two_protocols_on_one_schedule_part_where_the_rule_is_wrong() {
    let Some(mut browser) = Browser::start("compare") else { return };
    let page = page("compare", "no-alignment", &["--compare-correct"]);
    browser.open_file(&page, "");
    browser.press(&["v"]);
    // The wrong one reads on where the right one has held the input: there the same step is not
    // possible.
    assert_eq!(browser.text("where"), "step 8 of 13");
    assert!(browser.sees("difference"));
    let said = browser.text("difference");
    assert!(said.contains("only on the left: out reads record a/0 from a"), "{said}");
    assert!(browser.text("step").contains("is not possible here"));
    assert_eq!(browser.eval("document.querySelectorAll('#rows .apart-edge').length"), 1);
    browser.picture("page-compare.png");
    assert_eq!(browser.errors, [""; 0]);
}

/// A recorded run of about ten thousand lines, as a file.
fn recorded() -> String {
    let (flow, trace) = (Dataflow::new("long"), MemoryTrace::new());
    flow.source("numbers", Generator::new(None, |number| number).rate(20_000))
        .key_by(|number: &u64| number % 7)
        .count(snapline::Emit::EachChange)
        .sink("out", MemorySink::new());
    let config = JobConfig::new().parallelism(2).checkpoint_interval(None).record(trace.clone());
    let handle = flow.build(config).expect("the job can be built").spawn().expect("the job starts");
    while trace
        .files()
        .iter()
        .map(|(_, bytes)| bytes.iter().filter(|byte| **byte == b'\n').count())
        .sum::<usize>()
        < 10_001
    {
        for _ in 0..10 {
            handle.checkpoint().expect("a checkpoint completes");
        }
    }
    handle.cancel();
    handle.wait().expect("the job ends");
    let (_, bytes) = trace.files().into_iter().next().expect("one run");
    // Ten thousand lines after the first.
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').take(10_001);
    let path = scratch("long.ndjson");
    std::fs::write(&path, lines.collect::<Vec<_>>().concat())
        .expect("the scratch directory is writable");
    path
}

#[test]
fn ten_thousand_steps_of_a_recorded_run_stay_usable() {
    let Some(mut browser) = Browser::start("long") else { return };
    let (trace, page) = (recorded(), scratch("browser-long.html"));
    snapline(&["trace", "render", &trace, "-o", &page]).is(0, &["10,000 steps"]);
    browser.open_file(&page, "");
    assert!(!browser.sees("wrong"), "{}", browser.text("wrong"));
    let took = |browser: &mut Browser, what: &str| {
        let timed = format!(
            "(() => {{ const from = performance.now(); {what}; return performance.now() - from; }})()"
        );
        browser.eval(&timed).as_f64().expect("a time")
    };
    let opened = browser.eval(
        "(([it]) => it.loadEventEnd - it.startTime)(performance.getEntriesByType('navigation'))",
    );
    let stepped = took(&mut browser, "for (let step = 0; step < 20; step++) onward(1)") / 20.0;
    assert_eq!(browser.text("where").split(" of ").nth(1), Some("10000"));
    // Repetitions are folded into rows, and what is drawn is what is seen.
    assert!(browser.eval("rows.length").as_u64() < Some(2_000), "folded");
    browser.press(&["f"]);
    assert_eq!(browser.eval("rows.length"), 10_001);
    let jumped = took(&mut browser, "go(7777)");
    assert_eq!(browser.text("where"), "step 7777 of 10000");
    assert!(
        browser.eval("document.querySelectorAll('#rows *').length").as_u64() < Some(3_000),
        "drawn as far as it is seen"
    );
    browser.picture("page-long.png");
    browser.press(&["-", "-", "-", "-", "-", "-"]);
    browser.press(&["f", "End"]);
    assert_eq!(browser.text("where"), "step 10000 of 10000");
    browser.picture("page-long-folded.png");
    let bytes = std::fs::metadata(&page).expect("the page was written").len();
    let told = format!(
        "10,000 steps: {bytes} bytes, open in {opened} ms, a step in {stepped:.1} ms, a jump in {jumped:.1} ms\n"
    );
    std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes())
        .expect("the standard error can be written");
    // Wide bounds: these machines have neighbours.
    assert!(opened.as_f64() < Some(20_000.0) && stepped < 2_000.0 && jumped < 2_000.0, "{told}");
    assert_eq!(browser.requests.len(), 1);
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn a_run_that_is_not_as_the_protocol_has_it_is_marked_where_it_parts() {
    let Some(mut browser) = Browser::start("parts") else { return };
    let (flow, trace) = (Dataflow::new("edited"), MemoryTrace::new());
    flow.source("in", snapline::connect::MemorySource::new(vec![1, 2, 3]))
        .sink("out", MemorySink::new());
    flow.build(JobConfig::new().record(trace.clone()))
        .expect("well formed")
        .run()
        .expect("the job ends");
    let (_, bytes) = trace.files().into_iter().next().expect("one run");
    let text = String::from_utf8(bytes).expect("text");
    // A snapshot that did not become durable is acknowledged all the same.
    let edited = text.replacen(r#""durable":true"#, r#""durable":false"#, 1);
    assert_ne!(text, edited);
    let at = text
        .lines()
        .position(|line| line.contains(r#""durable":true"#))
        .expect("a durable snapshot is recorded");
    let path = file("edited.ndjson", &edited);
    let page = scratch("browser-edited.html");
    snapline(&["trace", "render", &path, "-o", &page]).is(0, &[]);
    browser.open_file(&page, "");
    browser.press(&["v"]);
    let broken = browser.text("breach");
    let step: usize = browser.eval("sides[0].scene.broken.step").as_u64().expect("a step") as usize;
    assert!(step >= at, "{step} is not before line {at}: {broken}");
    assert!(broken.contains("breaks the rule"), "{broken}");
    assert!(
        browser.text("law").contains("the protocol:") && browser.text("law").contains("the trace:")
    );
    assert_eq!(browser.text("where").split(' ').nth(1), Some(step.to_string().as_str()));
    assert_eq!(browser.errors, [""; 0]);
}

/// A page with another document in it.
fn with_document(page: &str, name: &str, document: &str) -> String {
    let page = std::fs::read_to_string(page).expect("the page was written");
    let mark = "<script type=\"application/json\" id=\"document\">";
    let (before, rest) = page.split_once(mark).expect("a document");
    let (_, after) = rest.split_once("</script>").expect("its end");
    file(name, &format!("{before}{mark}{document}</script>{after}"))
}

#[test]
fn hostile_traces_stay_text_and_broken_ones_are_told() {
    let Some(mut browser) = Browser::start("hostile") else { return };
    let page = page("hostile", "commit-twice", &[]);
    let text = std::fs::read_to_string(scratch("browser-hostile-trace/commit-twice.json"))
        .expect("the trace was written");

    // Names that would be markup, and one of a megabyte.
    let attack = "</script><script>window.pwned=1</script><img src=http://127.0.0.1:9/x onerror=window.pwned=2><!--";
    let huge = "x".repeat(1_000_000);
    for (number, name) in [attack, &huge].into_iter().enumerate() {
        let mut trace: Value = serde_json::from_str(&text).expect("JSON");
        trace["mutant"] = Value::Null;
        trace["law"] = Value::Null;
        trace["scenario"]["name"] = Value::String(name.into());
        for place in ["operator", "edge"] {
            let plan = trace["scenario"]["plan"].to_string();
            if number == 0 && place == "operator" {
                trace["scenario"]["plan"] = serde_json::from_str(
                    &plan.replace("\"in\"", &Value::String(attack.into()).to_string()),
                )
                .expect("JSON");
            }
        }
        let (path, out) = (
            file(&format!("hostile-{number}.json"), &trace.to_string()),
            scratch(&format!("hostile-{number}.html")),
        );
        snapline(&["trace", "render", &path, "-o", &out]).is(0, &[]);
        browser.open_file(&out, "#step=4");
        assert_eq!(browser.eval("window.pwned === undefined"), true);
        assert_eq!(
            browser.eval("document.querySelectorAll('img, script').length"),
            2,
            "the page's own"
        );
        assert!(!browser.sees("wrong") && browser.text("where").starts_with("step 4 of "));
        let title = browser.text("title");
        assert!(name.starts_with(title.trim_end_matches('…')) && title.len() < 300, "{title}");
        assert_eq!(browser.requests.len(), 1, "{:?}", browser.requests);
        assert_eq!(browser.errors, [""; 0]);
    }

    // Documents that no page of ours has: what is wrong is said, and nothing else is shown.
    let whole = std::fs::read_to_string(&page).expect("the page was written");
    let json = whole
        .split_once("id=\"document\">")
        .and_then(|(_, rest)| rest.split_once("</script>"))
        .expect("a document")
        .0;
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(json).expect("JSON");
        edit(&mut document);
        document.to_string().replace('<', "\\u003c")
    };
    let scene = |document: &mut Value| document["stories"][0]["scene"].take();
    let cases: [(&str, String, &str); 9] = [
        ("empty", String::new(), "cannot be shown"),
        ("half", json[..json.len() / 2].into(), "cannot be shown"),
        ("number", "7".into(), "not a document of a snapline page"),
        ("version", edited(&|it| it["version"] = 2.into()), "version 2"),
        ("stories", edited(&|it| it["stories"] = "many".into()), "has no stories"),
        ("scene", edited(&|it| drop(scene(it))), "story 1"),
        (
            "steps",
            edited(&|it| it["stories"][0]["scene"]["steps"] = serde_json::json!([{ "lane": 99 }])),
            "`steps`, entry 1, `lane`",
        ),
        (
            "text",
            edited(&|it| {
                it["stories"][0]["scene"]["steps"][2]["text"] =
                    serde_json::json!({ "a": ["<img src=x>"] })
            }),
            "`steps`, entry 3, `text`",
        ),
        (
            "arrow",
            edited(&|it| it["stories"][0]["scene"]["arrows"][0]["until"] = 1e9.into()),
            "`arrows`, entry 1, `until`",
        ),
    ];
    for (name, document, says) in &cases {
        browser.open_file(&with_document(&page, &format!("wrong-{name}.html"), document), "");
        assert!(browser.sees("wrong"), "{name}");
        let told = browser.text("wrong");
        assert!(told.contains(says), "{name}: {told}");
        assert_eq!(browser.eval("document.querySelectorAll('#rows svg').length"), 0, "{name}");
        // Keys do nothing, and do not throw.
        browser.press(&["j", "v", "End"]);
        assert_eq!(browser.errors, [""; 0], "{name}");
    }
    // A file that was cut off says so without any script.
    browser.open_file(&file("cut.html", &whole[..whole.len() / 2]), "");
    assert!(browser.sees("wrong") && browser.text("wrong").contains("the file is incomplete"));
}

#[test]
fn a_request_would_be_seen_and_is_refused_by_the_page_itself() {
    let Some(mut browser) = Browser::start("requests") else { return };
    let page = page("requests", "commit-twice", &[]);
    let text = std::fs::read_to_string(&page).expect("the page was written");
    let asking = text.replace("</body>", "<img src=\"http://127.0.0.1:9/picture\"></body>");
    // Without the policy the request is made, and the test sees it.
    let policy =
        text.lines().find(|line| line.contains("Content-Security-Policy")).expect("a policy");
    let open = file("asks.html", &asking.replace(policy, ""));
    browser.open_file(&open, "");
    assert_eq!(browser.requests, [file_of(&open), "http://127.0.0.1:9/picture".into()]);
    // With it the browser makes none.
    browser.open_file(&file("refused.html", &asking), "");
    browser.eval("fetch('http://127.0.0.1:9/data').catch(() => 0)");
    assert!(
        browser.errors.iter().any(|error| error.contains("Content Security Policy")),
        "{:?}",
        browser.errors
    );
    assert!(
        browser.errors.iter().all(|error| !error.contains("ERR_CONNECTION")),
        "{:?}",
        browser.errors
    );
}
