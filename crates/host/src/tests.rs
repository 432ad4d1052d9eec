use std::path::Path;

use crate::{Host, MAX_FILE_BYTES, ReadErrorKind, RecordedRead, RootError, testing::TestHost};

#[test]
fn an_absolute_link_is_followed_under_the_root() {
    let folder = TestHost::new()
        .file("/sys/devices/d0/vendor", "0x10de\n")
        .link("/sys/class/c0", "/sys/devices/d0")
        .link("/sys/class/out", "../../../../../../etc/passwd")
        .link("/sys/class/passwd", "/etc/passwd");
    let host = folder.open();
    assert_eq!(host.read("/sys/class/c0/vendor"), Ok(b"0x10de\n".to_vec()));
    for escape in ["/sys/class/out", "/sys/class/passwd", "/../../etc/passwd"] {
        assert_eq!(host.read(escape).map_err(|error| error.kind), Err(ReadErrorKind::Absent), "{escape}");
    }
}

#[test]
fn the_kinds_of_read_errors_are_distinguished() {
    let folder = TestHost::new()
        .file("/long", vec![b'1'; MAX_FILE_BYTES + 1])
        .file("/whole", vec![b'1'; MAX_FILE_BYTES])
        .link("/circle", "circle")
        .link("/nowhere", "gone");
    let host = folder.open();
    let kind = |path: &str| host.read(path).expect_err(path).kind;
    assert_eq!(kind("/long"), ReadErrorKind::TooLong);
    assert_eq!(host.read("/whole").map(|content| content.len()), Ok(MAX_FILE_BYTES));
    assert_eq!(kind("/nowhere"), ReadErrorKind::Absent);
    assert!(matches!(kind("/circle"), ReadErrorKind::Failed(_)));
    assert!(matches!(kind("/"), ReadErrorKind::Failed(_)));
    assert_eq!(
        host.read("/circle").expect_err("no file").to_string(),
        "/circle: Too many levels of symbolic links (os error 40)"
    );
    assert!(matches!(host.link("/whole").expect_err("no link").kind, ReadErrorKind::Failed(_)));
    assert_eq!(host.link("/circle").as_deref(), Ok("circle"));
}

#[test]
fn a_link_that_is_made_again_has_another_number() {
    let folder = TestHost::new().file("/driver", "").link("/bound", "driver").link("/again", "driver");
    let host = folder.open();
    let first = host.file_number("/bound").expect("it exists");
    assert_eq!(host.file_number("/bound"), Ok(first));
    assert_ne!(host.file_number("/driver"), Ok(first), "the link itself counts, not its target");
    std::fs::rename(folder.path().join("again"), folder.path().join("bound")).expect("a link can be moved");
    assert_ne!(host.file_number("/bound"), Ok(first));
    assert_eq!(host.file_number("/gone").map_err(|error| error.kind), Err(ReadErrorKind::Absent));
}

#[test]
fn a_pipe_does_not_block() {
    let folder = TestHost::new();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .expect("a pipe can be created");
    assert_eq!(folder.open().read("/pipe"), Ok(Vec::new()));
}

#[test]
fn a_root_that_is_no_directory_is_rejected() {
    let folder = TestHost::new().file("/file", "");
    let error = Host::open(folder.path().join("file")).expect_err("a file is no root");
    assert!(matches!(error, RootError::Open { .. }));
    assert!(Host::open(Path::new("/no/such/root")).is_err());
}

#[test]
fn a_copy_reads_like_the_recorded_host() {
    let folder = TestHost::new()
        .file("/sys/devices/pci0/0000:01:00.0/vendor", "0x10de\n")
        .file("/sys/devices/pci0/0000:01:00.0/serial", "123\n")
        .file("/sys/devices/pci0/0000:01:00.0/never_read", "1\n")
        .file("/dev/dri/card0", "")
        .link("/sys/bus/pci/devices/0000:01:00.0", "../../../devices/pci0/0000:01:00.0");
    let host = folder.open().with_recording();
    let read_all = |host: &Host| {
        (
            host.list("/sys/bus/pci/devices"),
            host.link("/sys/bus/pci/devices/0000:01:00.0"),
            host.read("/sys/bus/pci/devices/0000:01:00.0/vendor"),
            host.read("/sys/bus/pci/devices/0000:01:00.0/absent"),
            host.list("/dev/dri"),
            host.exists("/dev/dri/card0"),
        )
    };
    let expected = read_all(&host);
    host.read("/sys/bus/pci/devices/0000:01:00.0/serial").expect("it is there");
    let recording = host.recording();
    assert!(recording.reads().any(|(path, read)| path.ends_with("absent") && *read == RecordedRead::Absent));

    let copy = TestHost::new();
    recording
        .copy(
            &host,
            copy.path(),
            |path, content| {
                if path.ends_with("serial") { b"redacted".to_vec() } else { content.to_vec() }
            },
            str::to_owned,
        )
        .expect("the copy can be written");
    let copied = copy.open();
    assert_eq!(read_all(&copied), expected);
    assert_eq!(copied.read("/sys/bus/pci/devices/0000:01:00.0/serial"), Ok(b"redacted".to_vec()));
    assert!(!copied.exists("/sys/devices/pci0/0000:01:00.0/never_read"));
}

#[test]
fn renames_elsewhere_do_not_break_a_path_with_dots() {
    let folder = TestHost::new()
        .file("/sys/devices/d0/vendor", "0x10de\n")
        .link("/sys/bus/pci/devices/d0", "../../../devices/d0")
        .file("/elsewhere/a", "");
    let host = folder.open();
    let (from, to) = (folder.path().join("elsewhere/a"), folder.path().join("elsewhere/b"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = std::fs::rename(&from, &to).and_then(|()| std::fs::rename(&to, &from));
            }
        });
        let wrong = (0..20_000).filter(|_| host.read("/sys/bus/pci/devices/d0/vendor").is_err()).count();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(wrong, 0);
    });
}

#[test]
fn a_file_that_is_read_once_is_read_completely_or_not_at_all() {
    let ring = vec![7; MAX_FILE_BYTES + 5];
    let folder = TestHost::new().file("/ring", &ring).file("/empty", "");
    let host = folder.open();
    assert_eq!(host.read_once("/ring", ring.len()), Ok(ring.clone()));
    assert_eq!(host.read_once("/empty", 1), Ok(Vec::new()));
    let kind = |path, max_bytes| host.read_once(path, max_bytes).map_err(|error| error.kind);
    assert_eq!(kind("/ring", ring.len() - 1), Err(ReadErrorKind::TooLong));
    assert_eq!(kind("/absent", 1), Err(ReadErrorKind::Absent));
}

#[test]
fn a_list_of_any_length_is_read_line_by_line() {
    let line = "0x00327f5d : 0x00001000 : R\n";
    let folder = TestHost::new()
        .file("/list", line.repeat(20_000) + "the end")
        .file("/padded", b"one\n\0\0\0two\n")
        .file("/endless", "x".repeat(MAX_FILE_BYTES + 1));
    let host = folder.open();
    let read = |path: &str| {
        let mut lines = Vec::new();
        host.read_lines(path, |line| lines.push(String::from_utf8_lossy(line).into_owned()))
            .map(|()| lines)
            .map_err(|error| error.kind)
    };
    let list = read("/list").expect("the list is within the bound");
    assert_eq!((list.len(), list[19_999].as_str(), list[20_000].as_str()), (20_001, line.trim(), "the end"));
    assert_eq!(read("/padded"), Ok(["one", "", "", "", "two"].map(str::to_owned).to_vec()));
    assert_eq!(read("/endless"), Err(ReadErrorKind::TooLong), "one line is bounded as a file is");
    assert_eq!(read("/absent"), Err(ReadErrorKind::Absent));
    let host = folder.open().with_recording();
    let _ = host.read_lines("/padded", |_| {});
    let recorded: Vec<_> =
        host.recording().reads().map(|(path, read)| (path.to_owned(), read.clone())).collect();
    assert_eq!(recorded, [("/padded".to_owned(), RecordedRead::File(b"one\n\n\n\ntwo\n".to_vec()))]);
}

#[test]
fn a_circle_of_links_is_copied_and_does_not_stop_the_copy() {
    let folder = TestHost::new()
        .file("/etc/units/a.conf", "[Service]\n")
        .link("/etc/units/b.conf", "b.conf")
        .link("/etc/units/c.conf", "../units/d.conf")
        .link("/etc/units/d.conf", "c.conf");
    let host = folder.open().with_recording();
    let read_all = |host: &Host| {
        let names = host.list("/etc/units").expect("it is a directory");
        let read = |name: &String| host.read(&format!("/etc/units/{name}"));
        names.iter().map(read).collect::<Vec<_>>()
    };
    let expected = read_all(&host);
    assert_eq!(expected.iter().filter(|read| read.is_ok()).count(), 1);
    let copy = TestHost::new();
    host.recording()
        .copy(&host, copy.path(), |_, content| content.to_vec(), str::to_owned)
        .expect("the copy can be written");
    assert_eq!(read_all(&copy.open()), expected);
}

#[test]
fn names_are_replaced_where_they_are_a_folder_a_file_and_in_targets_of_links() {
    let folder = TestHost::new()
        .file("/sys/devices/SECRET/pci/vendor", "0x10de\n")
        .file("/sys/class/net/SECRET", "")
        .link("/sys/bus/pci", "../devices/SECRET/pci")
        .link("/sys/absolute", "/sys/devices/SECRET");
    let host = folder.open().with_recording();
    host.read("/sys/bus/pci/vendor").expect("it is there");
    host.list("/sys/class/net").expect("it is there");
    host.list("/sys/absolute").expect("it is there");
    let copy = TestHost::new();
    host.recording()
        .copy(&host, copy.path(), |_, content| content.to_vec(), |path| path.replace("SECRET", "x"))
        .expect("the copy can be written");
    let copied = copy.open();
    assert_eq!(copied.read("/sys/bus/pci/vendor"), Ok(b"0x10de\n".to_vec()));
    assert_eq!(copied.link("/sys/bus/pci").as_deref(), Ok("../devices/x/pci"));
    assert_eq!(copied.list("/sys/devices"), Ok(vec!["x".to_owned()]));
    assert_eq!(copied.list("/sys/class/net"), Ok(vec!["x".to_owned()]));
    assert_eq!(copied.list("/sys/absolute"), Ok(vec!["pci".to_owned()]));
}

#[test]
fn a_success_is_kept_whatever_else_fails_on_the_path() {
    let folder = TestHost::new().file("/vendor", "1").link("/circle", "circle");
    let host = folder.open().with_recording();
    host.read("/vendor").expect("it is there");
    host.link("/vendor").expect_err("it is no link");
    host.read("/circle").expect_err("it is a circle");
    assert!(!host.exists("/circle"));
    let recording = host.recording();
    let read = |path: &str| recording.reads().find(|(own, _)| *own == path).map(|(_, read)| read.clone());
    assert_eq!(read("/vendor"), Some(RecordedRead::File(b"1".to_vec())));
    assert!(matches!(read("/circle"), Some(RecordedRead::Failed(_))));
}

#[test]
fn reads_that_failed_fail_again() {
    let folder = TestHost::new().file("/a", "").file("/b", "1").file("/c/d", "");
    let kinds = [ReadErrorKind::TooLong, ReadErrorKind::Denied(13), ReadErrorKind::NoValue(61)];
    let failures = ["/a", "/b", "/c"].map(str::to_owned).into_iter().zip(kinds).collect();
    let host = folder.open().with_failures(failures);
    assert_eq!(host.read("/a").map_err(|error| error.kind), Err(kinds[0]));
    assert_eq!(host.read_once("/b", 10).map_err(|error| error.kind), Err(kinds[1]));
    assert_eq!(host.list("/c").map_err(|error| error.kind), Err(kinds[2]));
    assert_eq!(host.read("/c/d"), Ok(Vec::new()));
    assert!(host.exists("/a") && host.exists("/c"));
    for kind in kinds.into_iter().chain([ReadErrorKind::Absent, ReadErrorKind::Failed(5)]) {
        assert_eq!(ReadErrorKind::from_errno(kind.errno()), kind);
    }
}
