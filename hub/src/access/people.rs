//! People of this hub: accounts, passwords, and who is signed in.

use super::limiter::Limiter;
use super::password::{Password, generate, hash, matches};
use campanile_proto::ids::OrganisationId;
use campanile_proto::kind::Kind;
use campanile_proto::time::{Clock, MICROS_PER_SECOND, MonoTime};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// The account made at first start.
const FIRST_ACCOUNT: &str = "operatore";
const FIRST_ROLE: &str = "operator";
/// A workstation left alone.
const IDLE_US: i64 = 30 * 60 * MICROS_PER_SECOND;
/// Longer than a shift with overtime.
const ABSOLUTE_US: i64 = 12 * 3_600 * MICROS_PER_SECOND;
const MAX_SESSIONS: usize = 1_000;
const MAX_NAME_CHARACTERS: usize = 64;
/// Argon2id takes 19 MiB and some 30 ms each: more at once would be a way to stop the hub.
const HASHES_AT_ONCE: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    #[error("could not open the accounts at {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("could not read the accounts")]
    Read(#[source] rusqlite::Error),
    #[error("could not write the accounts")]
    Write(#[source] rusqlite::Error),
    #[error("could not write the first password to {path}")]
    WriteInitialPassword { path: PathBuf, source: std::io::Error },
    #[error("could not hash the password")]
    Hash,
    #[error("name or password is wrong")]
    WrongPassword,
    #[error("too many failed attempts; try again in {seconds} s")]
    TooMany { seconds: u64 },
    #[error("there is no account {0}")]
    NoAccount(String),
    #[error("there is an account {0} already; give it a new password with `people password`")]
    Exists(String),
    #[error("an account name has 1 to {MAX_NAME_CHARACTERS} letters, digits, dots or hyphens")]
    BadName,
}

impl PeopleError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::WrongPassword => Kind::Unauthenticated,
            Self::TooMany { .. } => Kind::Exhausted,
            Self::NoAccount(_) => Kind::NotFound,
            Self::Exists(_) => Kind::Conflict,
            Self::BadName => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}

/// Somebody signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub name: String,
    pub role: String,
    /// Microseconds until nothing renews it any more.
    pub left_us: i64,
}

struct Open {
    name: String,
    role: String,
    since: MonoTime,
    seen: MonoTime,
}

/// Cheap to clone; every clone is the same accounts.
#[derive(Clone)]
pub struct People(Arc<Inner>);

struct Inner {
    organisation: OrganisationId,
    accounts: Mutex<Connection>,
    /// By SHA-256 of the token: what is in memory signs nobody in.
    sessions: Mutex<HashMap<[u8; 32], Open>>,
    limiter: Mutex<Limiter>,
    hashing: Semaphore,
    clock: Arc<dyn Clock>,
    /// Checked in place of an account that is not there, so that both take the same time.
    nobody: String,
    /// The first account's generated password, until somebody has signed in with it.
    initial: PathBuf,
}

impl People {
    /// Opens the accounts in the hub's data directory. Without any, makes one and writes its generated
    /// password to `initial-password` (0600).
    pub fn open(data_dir: &Path, organisation: OrganisationId, clock: Arc<dyn Clock>) -> Result<Self, PeopleError> {
        let path = data_dir.join("accounts.sqlite");
        let failed = |source| PeopleError::Open { path: path.clone(), source };
        let accounts = Connection::open(&path).map_err(failed)?;
        accounts
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE IF NOT EXISTS account (
                     name TEXT PRIMARY KEY, role TEXT NOT NULL, password_hash TEXT NOT NULL
                 ) STRICT, WITHOUT ROWID;",
            )
            .map_err(failed)?;
        let nobody = hash(&generate()).ok_or(PeopleError::Hash)?;
        let people = Self(Arc::new(Inner {
            organisation,
            accounts: Mutex::new(accounts),
            sessions: Mutex::default(),
            limiter: Mutex::default(),
            hashing: Semaphore::new(HASHES_AT_ONCE),
            clock,
            nobody,
            initial: data_dir.join("initial-password"),
        }));
        people.make_first()?;
        Ok(people)
    }

    fn make_first(&self) -> Result<(), PeopleError> {
        let count: i64 = lock(&self.0.accounts)
            .query_row("SELECT COUNT(*) FROM account", [], |row| row.get(0))
            .map_err(PeopleError::Read)?;
        if count > 0 {
            return Ok(());
        }
        let password = generate();
        let path = self.0.initial.clone();
        write_private(&path, &password).map_err(|source| PeopleError::WriteInitialPassword { path, source })?;
        self.insert(FIRST_ACCOUNT, &password).map(drop)
    }

    /// Whether the account is new; one that is there is left as it is.
    fn insert(&self, name: &str, password: &Password) -> Result<bool, PeopleError> {
        let hashed = hash(password).ok_or(PeopleError::Hash)?;
        let sql = "INSERT INTO account (name, role, password_hash) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING";
        let inserted = lock(&self.0.accounts).execute(sql, params![name, FIRST_ROLE, hashed]);
        inserted.map(|rows| rows == 1).map_err(PeopleError::Write)
    }

    /// Whether there is such an account; then it is signed out everywhere.
    fn set(&self, name: &str, password: &Password) -> Result<bool, PeopleError> {
        let hashed = hash(password).ok_or(PeopleError::Hash)?;
        let sql = "UPDATE account SET password_hash = ?2 WHERE name = ?1";
        let changed = lock(&self.0.accounts).execute(sql, params![name, hashed]).map_err(PeopleError::Write)? == 1;
        if changed {
            lock(&self.0.sessions).retain(|_, open| open.name != name);
            if name == FIRST_ACCOUNT {
                self.forget_initial();
            }
        }
        Ok(changed)
    }

    /// A password that lies about for ever is found by whoever reads backups.
    fn forget_initial(&self) {
        let gone = std::fs::remove_file(&self.0.initial);
        if let Err(error) = gone.map_err(|e| (e.kind(), e))
            && error.0 != std::io::ErrorKind::NotFound
        {
            tracing::warn!(error = %error.1, path = %self.0.initial.display(), "first password not removed");
        }
    }

    pub async fn names(&self) -> Result<Vec<String>, PeopleError> {
        self.blocking(|people| {
            let accounts = lock(&people.0.accounts);
            let mut statement =
                accounts.prepare("SELECT name FROM account ORDER BY name").map_err(PeopleError::Read)?;
            let rows = statement.query_map([], |row| row.get(0)).map_err(PeopleError::Read)?;
            rows.collect::<Result<_, _>>().map_err(PeopleError::Read)
        })
        .await
    }

    /// SQLite and Argon2id are off the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, PeopleError> + Send + 'static,
    ) -> Result<T, PeopleError> {
        let people = self.clone();
        tokio::task::spawn_blocking(move || work(people)).await.unwrap_or(Err(PeopleError::Hash))
    }

    /// Makes an account; its generated password is told once.
    pub async fn add(&self, name: &str) -> Result<String, PeopleError> {
        let named = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
        if !(1..=MAX_NAME_CHARACTERS).contains(&name.chars().count()) || !name.chars().all(named) {
            return Err(PeopleError::BadName);
        }
        let (password, asked) = (generate(), name.to_owned());
        let told = password.reveal().to_owned();
        match self.blocking(move |people| people.insert(&asked, &password)).await? {
            true => Ok(told),
            false => Err(PeopleError::Exists(name.to_owned())),
        }
    }

    /// Gives an account a new generated password, told once, and signs it out everywhere.
    pub async fn reset_password(&self, name: &str) -> Result<String, PeopleError> {
        let (password, asked) = (generate(), name.to_owned());
        let told = password.reveal().to_owned();
        match self.blocking(move |people| people.set(&asked, &password)).await? {
            true => Ok(told),
            false => Err(PeopleError::NoAccount(name.chars().take(MAX_NAME_CHARACTERS).collect())),
        }
    }

    /// Signs in; returns the cookie's value. `from` is the asker's address, counted against its failures.
    pub async fn sign_in(&self, name: &str, password: Password, from: &str) -> Result<(String, Session), PeopleError> {
        let now = self.0.clock.mono();
        lock(&self.0.limiter).admit(name, from, now).map_err(|seconds| PeopleError::TooMany { seconds })?;
        let _turn = self.0.hashing.acquire().await.map_err(|_| PeopleError::Hash)?;
        let asked = name.to_owned();
        let role = self.blocking(move |people| {
            let role = people.check(&asked, &password)?;
            if role.is_some() && asked == FIRST_ACCOUNT {
                people.forget_initial();
            }
            Ok(role)
        });
        let role = role.await?.ok_or(PeopleError::WrongPassword)?;
        lock(&self.0.limiter).forget(name, from);
        Ok(self.open_session(name, role))
    }

    /// The role of the account if the password is its own.
    fn check(&self, name: &str, password: &Password) -> Result<Option<String>, PeopleError> {
        let found = lock(&self.0.accounts)
            .query_row("SELECT role, password_hash FROM account WHERE name = ?1", [name], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .optional()
            .map_err(PeopleError::Read)?;
        let known = found.is_some();
        let (role, hashed) = found.unwrap_or_else(|| (String::new(), self.0.nobody.clone()));
        Ok((matches(password, &hashed) && known).then_some(role))
    }

    fn open_session(&self, name: &str, role: String) -> (String, Session) {
        let mut token = [0; 32];
        getrandom::fill(&mut token).expect("the kernel gives random bytes because it does so from boot on");
        let token = hex::encode(token);
        let now = self.0.clock.mono();
        let mut sessions = lock(&self.0.sessions);
        sessions.retain(|_, open| is_alive(open, now));
        if sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, open)| open.seen).map(|(key, _)| *key);
            oldest.map(|key| sessions.remove(&key));
        }
        let open = Open { name: name.to_owned(), role: role.clone(), since: now, seen: now };
        sessions.insert(Sha256::digest(&token).into(), open);
        (token, Session { name: name.to_owned(), role, left_us: ABSOLUTE_US })
    }

    /// Who this cookie's value signs in; being asked for renews the idle term.
    pub fn session(&self, token: &str) -> Option<Session> {
        let now = self.0.clock.mono();
        let mut sessions = lock(&self.0.sessions);
        let key: [u8; 32] = Sha256::digest(token).into();
        if !sessions.get(&key).is_some_and(|open| is_alive(open, now)) {
            sessions.remove(&key);
            return None;
        }
        let open = sessions.get_mut(&key)?;
        open.seen = now;
        let left_us = ABSOLUTE_US - (now - open.since);
        Some(Session { name: open.name.clone(), role: open.role.clone(), left_us })
    }

    pub fn sign_out(&self, token: &str) {
        let key: [u8; 32] = Sha256::digest(token).into();
        lock(&self.0.sessions).remove(&key);
    }

    /// The cookie's name: carries the organisation, because cookies do not distinguish ports. A `__Host-`
    /// name (RFC 6265bis) exists only with TLS.
    pub fn cookie_name(&self, tls: bool) -> String {
        let prefix = if tls { "__Host-" } else { "" };
        format!("{prefix}campanile-{}", self.0.organisation)
    }
}

fn is_alive(open: &Open, now: MonoTime) -> bool {
    now - open.seen < IDLE_US && now - open.since < ABSOLUTE_US
}

fn write_private(path: &Path, password: &Password) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{}", password.reveal())?;
    file.sync_all()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::time::{SimClock, WallTime};

    const US: OrganisationId = OrganisationId::from_u128(1);

    fn people() -> (People, Arc<SimClock>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(1_800_000_000_000_000)));
        (People::open(folder.path(), US, clock.clone()).unwrap(), clock, folder)
    }

    fn first(folder: &tempfile::TempDir) -> std::io::Result<String> {
        std::fs::read_to_string(folder.path().join("initial-password")).map(|text| text.trim_end().to_owned())
    }

    async fn sign_in(people: &People, name: &str, password: &str) -> Result<String, PeopleError> {
        people.sign_in(name, Password::new(password.to_owned()), "10.0.0.1").await.map(|(token, _)| token)
    }

    #[tokio::test]
    async fn the_first_password_is_written_once_and_gone_after_the_first_sign_in() {
        use std::os::unix::fs::PermissionsExt;
        let (people, clock, folder) = people();
        let password = first(&folder).unwrap();
        let mode = std::fs::metadata(folder.path().join("initial-password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(sign_in(&people, FIRST_ACCOUNT, "wrong").await, Err(PeopleError::WrongPassword)));
        assert!(first(&folder).is_ok(), "a wrong password removes nothing");
        sign_in(&people, FIRST_ACCOUNT, &password).await.unwrap();
        assert!(first(&folder).is_err());
        drop(people);
        let again = People::open(folder.path(), US, clock).unwrap();
        assert!(first(&folder).is_err(), "and is not made again");
        assert!(sign_in(&again, FIRST_ACCOUNT, &password).await.is_ok());
    }

    #[tokio::test]
    async fn an_account_that_is_there_keeps_its_password() {
        let (people, _, _folder) = people();
        let password = people.add("anna").await.unwrap();
        assert!(matches!(people.add("anna").await, Err(PeopleError::Exists(_))));
        assert!(sign_in(&people, "anna", &password).await.is_ok());
        assert_eq!(people.names().await.unwrap(), ["anna", FIRST_ACCOUNT]);
        for bad in ["", "a b", "a/b", &"x".repeat(65)] {
            assert!(matches!(people.add(bad).await, Err(PeopleError::BadName)), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_new_password_signs_out_everywhere_and_the_old_one_is_dead() {
        let (people, _, folder) = people();
        let old = first(&folder).unwrap();
        let token = sign_in(&people, FIRST_ACCOUNT, &old).await.unwrap();
        let other = people.add("anna").await.unwrap();
        let annas = sign_in(&people, "anna", &other).await.unwrap();
        let new = people.reset_password(FIRST_ACCOUNT).await.unwrap();
        assert!(people.session(&token).is_none());
        assert!(people.session(&annas).is_some(), "hers is another account");
        assert!(matches!(sign_in(&people, FIRST_ACCOUNT, &old).await, Err(PeopleError::WrongPassword)));
        assert!(sign_in(&people, FIRST_ACCOUNT, &new).await.is_ok());
        assert!(matches!(people.reset_password("nobody").await, Err(PeopleError::NoAccount(_))));
    }

    #[tokio::test]
    async fn a_session_ends_when_idle_and_at_the_end_of_the_shift() {
        let (people, clock, folder) = people();
        let token = sign_in(&people, FIRST_ACCOUNT, &first(&folder).unwrap()).await.unwrap();
        assert_eq!(people.session(&token).unwrap().name, FIRST_ACCOUNT);
        assert!(people.session("another").is_none());
        for _ in 0..23 {
            clock.advance_micros(IDLE_US - 1);
            assert!(people.session(&token).is_some());
        }
        clock.advance_micros(IDLE_US - 1);
        assert!(people.session(&token).is_some());
        clock.advance_micros(25);
        assert!(people.session(&token).is_none(), "twelve hours are over");

        let password = people.reset_password(FIRST_ACCOUNT).await.unwrap();
        let token = sign_in(&people, FIRST_ACCOUNT, &password).await.unwrap();
        clock.advance_micros(IDLE_US);
        assert!(people.session(&token).is_none());
        let token = sign_in(&people, FIRST_ACCOUNT, &password).await.unwrap();
        people.sign_out(&token);
        assert!(people.session(&token).is_none());
    }

    #[test]
    fn two_hubs_on_one_machine_have_two_cookies() {
        let (people, _, _folder) = people();
        assert_eq!(people.cookie_name(true), format!("__Host-campanile-{US}"));
        assert_eq!(people.cookie_name(false), format!("campanile-{US}"));
    }
}
