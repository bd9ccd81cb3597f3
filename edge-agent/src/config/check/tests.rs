use super::*;
use crate::config::ConfigError;

const SHIPPED: &str = include_str!("../../../../configs/edge.toml");

fn problems(text: &str) -> Vec<Problem> {
    match Config::parse(text, Path::new("/etc/campanile/edge.toml")) {
        Err(ConfigError::Problems { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_shipped_file_is_valid_and_shows_the_defaults() {
    let shipped = Config::parse(SHIPPED, Path::new("/etc/campanile/edge.toml")).unwrap();
    assert_eq!(shipped.retention, Retention { days: 7, max_bytes: None });
    assert!(!shipped.record_in_clear && shipped.cameras.is_empty());
    // What is commented out in the example is valid too, but for its password file.
    let all: Vec<_> = SHIPPED
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .filter(|line| !line.starts_with("password_file") && !line.starts_with("username"))
        .collect();
    let all = Config::parse(&all.join("\n"), Path::new("/etc/campanile/edge.toml")).unwrap();
    assert_eq!(all.cameras.len(), 1);
    assert!(all.cameras[0].sub.is_some());
    assert_eq!((all.cameras[0].days, all.cameras[0].max_bytes), (Some(3), Some(60_000_000_000)));
    assert_eq!(all.cameras[0].ignore.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn every_problem_is_named_at_once_with_its_remedy() {
    let text = r#"
        config_version = 9
        name = ""
        state_dir = "s"
        media_dir = ""
        [retention]
        days = 30
        [[camera]]
        name = "porta"
        main = "rtsp://admin:segreto@10.0.0.2/1"
        latitude = 43.0
        ignore = [[[0.0, 0.0], [1.5, 0.0], [0.0, 1.0]]]
        days = 8
        max_bytes = 1000
        [[camera]]
        name = "porta"
        main = "http://10.0.0.2/1"
        username = "admin"
        password_env = "CAMPANILE_NO_SUCH_VARIABLE"
    "#;
    let found = problems(text);
    let keys: Vec<_> = found.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "config_version",
            "name",
            "media_dir",
            "retention.days",
            "camera[0].days",
            "camera[0].max_bytes",
            "camera[0].main",
            "camera[0].latitude",
            "camera[0].ignore",
            "camera[1].name",
            "camera[1].main",
            "camera[1].password_env",
            "camera[1].username",
        ]
    );
    assert!(found.iter().all(|p| !p.remedy.is_empty()));
    assert!(!format!("{found:?}").contains("segreto"));
}

#[test]
fn a_camera_may_keep_less_than_its_box_and_never_more() {
    let with = |days: u32| {
        format!(
            "config_version = 1\nname = \"n\"\nstate_dir = \"s\"\nmedia_dir = \"m\"\n[retention]\ndays = 5\n\
             [[camera]]\nname = \"c\"\nmain = \"rtsp://h:554/1\"\ndays = {days}\nmax_bytes = 2000000000\n"
        )
    };
    for days in [1, 5] {
        let config = Config::parse(&with(days), Path::new("edge.toml")).unwrap();
        assert_eq!((config.cameras[0].days, config.cameras[0].max_bytes), (Some(days), Some(2_000_000_000)));
    }
    for days in [0, 6, 7, 8] {
        let found = problems(&with(days));
        assert_eq!(found.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["camera[0].days"]);
    }
}

#[test]
fn an_unknown_key_is_an_error_that_shows_no_value() {
    let text = "config_version = 1\nname = \"n\"\nstate_dir = \"s\"\nmedia_dir = \"m\"\npassword = \"segreto\"\n";
    let error = Config::parse(text, Path::new("edge.toml")).unwrap_err().to_string();
    assert!(error.contains("password: is no key") && !error.contains("segreto"), "{error}");
}

#[test]
fn keys_that_are_unknown_missing_or_of_another_type_are_named_together_with_what_else_is_wrong() {
    let text = r#"
        config_version = "1"
        nome = "segreto"
        media_dir = 5
        [retention]
        days = 30
        giorni = 3
        [[camera]]
        name = "porta"
        main = "http://10.0.0.2/1"
        transport = "segreto"
        analyse = "yes"
        ignore = [[0.0, 0.0]]
        latitude = "43"
        [[camera]]
        sub = ["segreto"]
    "#;
    let found = problems(text);
    let mut keys: Vec<_> = found.iter().map(|p| p.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "camera[0].analyse",
            "camera[0].ignore",
            "camera[0].latitude",
            "camera[0].main",
            "camera[0].transport",
            "camera[1].main",
            "camera[1].name",
            "camera[1].sub",
            "config_version",
            "media_dir",
            "name",
            "nome",
            "retention.days",
            "retention.giorni",
            "state_dir",
        ]
    );
    assert!(found.iter().all(|p| !p.remedy.is_empty()));
    assert!(!format!("{found:?}").contains("segreto"));
}

#[test]
fn a_password_file_that_only_its_group_may_read_does_not_stop_the_box() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p");
    std::fs::write(&path, "segreto \nfor the camera at the door\n").unwrap();
    for mode in [0o644, 0o604, 0o602] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (problem, remedy) = read_password(&path).unwrap_err();
        assert!(problem.contains(&format!("{mode:04o}")) && remedy.contains("0600"), "{problem}");
    }
    for mode in [0o600, 0o640, 0o440] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(read_password(&path).unwrap(), "segreto ", "its first line");
    }
}

#[test]
fn a_password_does_not_show_in_debug() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p"), "segreto\n").unwrap();
    std::fs::set_permissions(folder.path().join("p"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = "config_version = 1\nname = \"n\"\nstate_dir = \"s\"\nmedia_dir = \"m\"\n[[camera]]\nname = \"c\"\n\
                main = \"rtsp://h:554/1\"\nusername = \"u\"\npassword_file = \"p\"\n";
    let config = Config::parse(text, &folder.path().join("edge.toml")).unwrap();
    assert_eq!(config.cameras[0].password.as_ref().unwrap().expose(), "segreto");
    assert!(!format!("{config:?}").contains("segreto"));
    assert_eq!(config.media_dir, folder.path().join("m"));
}
