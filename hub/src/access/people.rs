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
    #[error("an account name has 1 to {MAX_NAME_CHARACTERS} letters, digits, dots or hyphens")]
    BadName,
}

impl PeopleError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::WrongPassword => Kind::Unauthenticated,
            Self::TooMany { .. } => Kind::Exhausted,
            Self::NoAccount(_) => Kind::NotFound,
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
        }));
        people.make_first(data_dir)?;
        Ok(people)
    }

    fn make_first(&self, data_dir: &Path) -> Result<(), PeopleError> {
        let count: i64 = lock(&self.0.accounts)
            .query_row("SELECT COUNT(*) FROM account", [], |row| row.get(0))
            .map_err(PeopleError::Read)?;
        if count > 0 {
            return Ok(());
        }
        let password = generate();
        let path = data_dir.join("initial-password");
        write_private(&path, &password).map_err(|source| PeopleError::WriteInitialPassword { path, source })?;
        self.write(FIRST_ACCOUNT, FIRST_ROLE, &password)
    }

    fn write(&self, name: &str, role: &str, password: &Password) -> Result<(), PeopleError> {
        let hashed = hash(password).ok_or(PeopleError::Hash)?;
        lock(&self.0.accounts)
            .execute(
                "INSERT INTO account (name, role, password_hash) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash",
                params![name, role, hashed],
            )
            .map(drop)
            .map_err(PeopleError::Write)
    }

    pub fn names(&self) -> Result<Vec<String>, PeopleError> {
        let accounts = lock(&self.0.accounts);
        let mut statement = accounts.prepare("SELECT name FROM account ORDER BY name").map_err(PeopleError::Read)?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(PeopleError::Read)?;
        rows.collect::<Result<_, _>>().map_err(PeopleError::Read)
    }

    /// Makes an account; its generated password is told once.
    pub async fn add(&self, name: &str) -> Result<String, PeopleError> {
        let named = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
        if !(1..=MAX_NAME_CHARACTERS).contains(&name.chars().count()) || !name.chars().all(named) {
            return Err(PeopleError::BadName);
        }
        self.set_generated(name).await
    }

    /// Gives an account a new generated password, told once, and signs it out everywhere.
    pub async fn reset_password(&self, name: &str) -> Result<String, PeopleError> {
        if !self.names()?.iter().any(|known| known == name) {
            return Err(PeopleError::NoAccount(name.chars().take(MAX_NAME_CHARACTERS).collect()));
        }
        self.set_generated(name).await
    }

    async fn set_generated(&self, name: &str) -> Result<String, PeopleError> {
        let password = generate();
        let told = password.reveal().to_owned();
        let (people, name) = (self.clone(), name.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            people.write(&name, FIRST_ROLE, &password)?;
            lock(&people.0.sessions).retain(|_, open| open.name != name);
            Ok(())
        });
        written.await.unwrap_or(Err(PeopleError::Hash)).map(|()| told)
    }

    /// Signs in; returns the cookie's value. `from` is the asker's address, counted against its failures.
    pub async fn sign_in(&self, name: &str, password: Password, from: &str) -> Result<(String, Session), PeopleError> {
        let now = self.0.clock.mono();
        lock(&self.0.limiter).admit(name, from, now).map_err(|seconds| PeopleError::TooMany { seconds })?;
        let _turn = self.0.hashing.acquire().await.map_err(|_| PeopleError::Hash)?;
        let (people, asked) = (self.clone(), name.to_owned());
        let role = tokio::task::spawn_blocking(move || people.check(&asked, &password))
            .await
            .unwrap_or(Err(PeopleError::Hash))?
            .ok_or(PeopleError::WrongPassword)?;
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
