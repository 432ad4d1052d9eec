use serde_json::json;

use super::*;

fn requested(request: &'static str) -> Inbox {
    let inbox = Inbox::default();
    inbox.requests(request);
    inbox
}

#[test]
fn a_response_that_was_not_requested_is_dropped_and_counted() {
    let inbox = requested("sample");
    inbox.put_line(br#"{"response": "discover", "value": 1}"#);
    inbox.put_line(br#"{"response": "sample", "value": 2}"#);
    inbox.put_line(br#"{"response": "sample", "value": 3}"#);
    assert_eq!(inbox.dropped(), DroppedMessages { responses: 2, ..DroppedMessages::default() });
    let taken = |request| inbox.take_response(request).map(|response| response.get().to_owned());
    assert_eq!((taken("discover"), taken("sample")), (None, Some("2".to_owned())));
}

#[test]
fn the_first_events_are_kept_and_the_others_counted() {
    let inbox = Inbox::default();
    for number in 0..MAX_EVENTS + 10 {
        inbox.put_line(json!({ "event": number }).to_string().as_bytes());
    }
    assert_eq!(inbox.dropped().events, 10);
    let events = inbox.take_events();
    assert_eq!((events.len(), &events[0]), (MAX_EVENTS, &json!(0)));
    let long = json!({ "event": "x".repeat(MAX_EVENT_BYTES) }).to_string();
    assert_eq!(inbox.put_line(long.as_bytes()), LineEffect::None);
    assert!(inbox.take_events().is_empty());
}

#[test]
fn lines_that_are_no_message_are_counted_whatever_their_bytes() {
    let inbox = requested("sample");
    for line in [b"NVRM: hello" as &[u8], b"caf\xe9", b"", b"{\"response\": \"sample\"}"] {
        assert_eq!(inbox.put_line(line), LineEffect::None);
    }
    let many = format!("{{\"response\": \"sample\", \"value\": [0{}]}}", ",0".repeat(MAX_VALUES));
    inbox.put_line(many.as_bytes());
    assert_eq!(inbox.dropped().output, 5);
    assert!(!inbox.has_response("sample"));
}

#[test]
fn only_the_report_of_the_confinement_before_the_library_is_loaded_is_logged() {
    let inbox = Inbox::default();
    let line = br#"{"confined": "Landlock ABI 6"}"#;
    assert_eq!(inbox.put_line(line), LineEffect::Confined("Landlock ABI 6".to_owned()));
    assert_eq!(inbox.put_line(line), LineEffect::None);
    assert_eq!(inbox.dropped().output, 1);
}

#[test]
fn the_texts_of_a_process_are_short() {
    let inbox = Inbox::default();
    let long = "\u{e9}".repeat(MAX_TEXT_BYTES);
    let line = json!({ "confined": long }).to_string();
    let LineEffect::Confined(text) = inbox.put_line(line.as_bytes()) else {
        panic!("it is the first report of the confinement");
    };
    assert_eq!(text.len(), MAX_TEXT_BYTES);
    inbox.put_line(json!({ "restart": format!("a{long}") }).to_string().as_bytes());
    let Some(InboxEnd::Restart(reason)) = inbox.ended() else { panic!("it asked for a restart") };
    assert_eq!(reason.len(), MAX_TEXT_BYTES - 1, "no character is cut");
}

#[test]
fn a_process_that_writes_too_much_between_two_answers_is_given_up() {
    let inbox = requested("sample");
    let line = vec![b'x'; 1 << 20];
    for _ in 0..15 {
        inbox.put_line(&line);
    }
    inbox.put_line(br#"{"response": "sample", "value": 1}"#);
    for _ in 0..15 {
        inbox.put_line(&line);
    }
    assert_eq!(inbox.ended(), None, "an answer ends the count");
    inbox.put_line(&line);
    inbox.put_line(&line);
    assert!(inbox.is_given_up());
}

#[test]
fn the_log_has_a_limit_per_minute() {
    let mut budget = LogBudget::default();
    let now = Instant::now();
    let admitted = (0..100).filter(|_| budget.admits(usize::MAX >> 1, now)).count();
    assert_eq!(admitted, LOG_BYTES_PER_MINUTE / (MAX_TEXT_BYTES + 1));
    assert!(budget.admits(10, now + Duration::from_secs(60)));
}

#[test]
fn a_line_of_the_log_is_made_readable() {
    let inbox = Inbox::default();
    assert_eq!(inbox.put_log_line(b"caf\xe9"), LineEffect::Log("caf\u{fffd}".to_owned()));
}
