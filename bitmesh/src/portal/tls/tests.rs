use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bitmesh_core::{Mac, StateWord, Tariff};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::portal::caller::{Caller, Hall};
use crate::portal::connection::serve;
use crate::portal::host::Own;
use crate::portal::places::Places;
use crate::portal::routes::routes;
use crate::portal::visit::tests::{account, visit};
use crate::portal::{HANDSHAKE_TIMEOUT, MAX_CONNECTIONS, Told};

const NAME: &str = "portal.example";
const BOB: Option<Mac> = Some(Mac::new([2, 0, 0, 0, 0, 0x0b]));
/// Connections of one station in this rig.
const PLACES: usize = 2;

/// The operator's folder.
struct Files {
    folder: TempDir,
    tls: Tls,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let tls = Tls { certificate: at("portal.pem"), key: at("portal.key"), port: 443 };
        Self { folder, tls }
    }

    /// Puts a new pair there, and gives the certificate.
    fn renew(&self, name: &str) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        fs::write(&self.tls.certificate, cert.pem()).expect("written");
        fs::write(&self.tls.key, signing_key.serialize_pem()).expect("written");
        cert.der().clone()
    }

    fn load(&self) -> Result<Certificates, TlsError> {
        Certificates::load(self.tls.clone(), vec![NAME.to_owned()])
    }
}

/// A door with TLS, and one without beside it.
struct Rig {
    files: Files,
    first: CertificateDer<'static>,
    shown: Arc<Certificates>,
    secure: SocketAddr,
    plain: SocketAddr,
    places: Places,
}

impl Rig {
    async fn new() -> Self {
        let files = Files::new();
        let first = files.renew(NAME);
        let shown = Arc::new(files.load().expect("a good pair"));
        let (ask, mut asked) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(crate::portal::Asked { answer, .. }) = asked.recv().await {
                let tariff = Tariff { uplink_msat_per_mib: 1, ..Tariff::default() };
                let open = visit(Some(account(StateWord::Open, tariff, 5)));
                let _ = answer.send(Ok(Told::Visit(Box::new(open))));
            }
        });
        let hall = Arc::new(Hall::new(ask, None).expect("a hall"));
        let places = Places::new(MAX_CONNECTIONS, PLACES);
        let listeners = [listener().await, listener().await];
        let [secure, plain] = [0, 1].map(|n: usize| listeners[n].local_addr().expect("an address"));
        for (listener, tls) in listeners.into_iter().zip([Some(Arc::clone(&shown)), None]) {
            let own = Own {
                addresses: vec![secure.ip()],
                names: vec![NAME.to_owned()],
                plain_port: plain.port(),
                tls_port: Some(secure.port()),
                secure: tls.is_some(),
            };
            let own = Arc::new(Mutex::new(own));
            let caller = Caller { mac: BOB, hall: Arc::clone(&hall), own, local: secure.ip() };
            let places = places.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let Ok(place) = places.take(BOB) else { continue };
                    let tls = tls.as_ref().map(|shown| shown.acceptor());
                    tokio::spawn(serve(stream, place, tls, routes(), caller.clone()));
                }
            });
        }
        Self { files, first, shown, secure, plain, places }
    }

    /// Shakes hands with who shows this certificate, for this name.
    async fn connect(
        &self,
        trusted: &CertificateDer<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.secure).await?;
        let name = ServerName::try_from(NAME).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    fn head(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {NAME}:{}\r\n", self.secure.port())
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = self.connect(&self.first).await.expect("a handshake");
        let request = format!("{}Connection: close\r\n\r\n", self.head(path));
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("a close that was announced");
        said
    }

    async fn get_plain(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(self.plain).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        crate::portal::tests::read(&mut stream).await
    }

    /// Waits until so many places are free.
    async fn free(&self, count: usize) {
        let all = || (0..count).map(|_| self.places.take(BOB)).all(|place| place.is_ok());
        let freed = async {
            while !all() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), freed).await.expect("places are given back");
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound")
}

#[tokio::test]
async fn page_and_captive_api_come_over_tls_under_the_name_of_the_certificate() {
    let rig = Rig::new().await;
    let page = format!("https://{NAME}:{}/", rig.secure.port());
    let said = rig.get("/captive").await;
    assert!(said.contains(&format!("\"user-portal-url\":\"{page}\"")), "{said}");
    let said = rig.get("/?lang=en").await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("</html>"), "{said}");
    assert!(!said.contains("came without encryption"), "{said}");
    let command = format!("--gateway http://127.0.0.1:{} ", rig.plain.port());
    assert!(said.contains(&command), "a program goes to the plain port: {said}");
}

#[tokio::test]
async fn the_plain_door_leads_every_page_and_every_probe_to_the_one_with_tls() {
    let rig = Rig::new().await;
    let page = format!("location: https://{NAME}:{}/\r\n", rig.secure.port());
    for (path, host) in
        [("/", rig.plain.to_string()), ("/generate_204", "android.example".to_owned())]
    {
        let said = rig.get_plain(path, &host).await;
        assert!(said.starts_with("HTTP/1.1 302 ") && said.contains(&page), "{said}");
    }
    let said = rig.get_plain("/captive", &rig.plain.to_string()).await;
    assert!(
        said.contains(&format!(
            "\"user-portal-url\":\"{}",
            &page["location: ".len()..page.len() - 2]
        )),
        "{said}"
    );
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_next_and_who_is_there_goes_on() {
    let rig = Rig::new().await;
    let mut there = rig.connect(&rig.first).await.expect("a handshake");
    assert!(!rig.shown.refresh().expect("nothing changed"));
    let second = rig.files.renew(NAME);
    assert!(rig.shown.refresh().expect("a good pair"));
    assert!(!rig.shown.refresh().expect("nothing changed"));
    rig.connect(&second).await.expect("the new one is shown");
    rig.connect(&rig.first).await.expect_err("the old one is shown no more");
    let request = format!("{}Connection: close\r\n\r\n", rig.head("/captive"));
    there.write_all(request.as_bytes()).await.expect("sent");
    let mut said = String::new();
    there.read_to_string(&mut said).await.expect("read");
    assert!(said.contains("\"captive\":false"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_read_again_unasked() {
    let rig = Rig::new().await;
    tokio::spawn(Arc::clone(&rig.shown).keep_fresh());
    let second = rig.files.renew(NAME);
    tokio::time::sleep(REFRESH_EVERY * 2).await;
    rig.connect(&second).await.expect("the new one is shown");
}

#[test]
fn a_bad_file_is_refused_with_a_line_that_says_what_to_do_and_the_old_one_stays() {
    let files = Files::new();
    files.renew(NAME);
    let pem = fs::read_to_string(&files.tls.certificate).expect("read");
    let key = fs::read_to_string(&files.tls.key).expect("read");
    let shown = files.load().expect("a good pair");
    let old = Arc::clone(&shown.shown.lock().expect("not poisoned"));
    let folder = files.folder.path().display().to_string();
    let refused = |what: &str, expected: &str| {
        let said = shown.refresh().expect_err(what).to_string();
        assert!(said.contains(&folder) && said.contains(expected), "{what}: {said}");
        assert!(Arc::ptr_eq(&old, &shown.shown.lock().expect("not poisoned")), "{what}");
        assert!(!shown.refresh().expect("it was said once"), "{what}");
        let said = files.load().expect_err(what).to_string();
        assert!(said.contains(expected), "at the start: {what}: {said}");
    };
    fs::remove_file(&files.tls.certificate).expect("removed");
    refused("gone", "mend `certificate` or `key` in [portal.tls], or who may read it");
    let cut = &pem[..pem.len() / 2];
    fs::write(&files.tls.certificate, cut).expect("written");
    refused("cut", "holds no chain of 1 to 8 certificates as PEM");
    fs::write(&files.tls.certificate, pem.repeat(9)).expect("written");
    refused("too many", "holds no chain of 1 to 8 certificates as PEM");
    fs::write(&files.tls.certificate, vec![b'\n'; (64 << 10) + 1]).expect("written");
    refused("too long", "has more than 65536 bytes: give a certificate and its chain alone");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&files.tls.certificate, junk).expect("written");
    refused("junk", "can't be used");
    fs::write(&files.tls.certificate, &pem).expect("written");
    fs::write(&files.tls.key, "").expect("written");
    refused("no key", "holds no private key as PEM, without a password");
    let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    fs::write(&files.tls.key, other).expect("written");
    refused("another key", "is not that of the certificate in");
    files.renew("shop.example");
    refused("another name", "is not for portal.example: get one that is, or mend `names`");
    fs::write(&files.tls.certificate, &pem).expect("written");
    fs::write(&files.tls.key, &key).expect("written");
    assert!(shown.refresh().expect("the old pair is back"));
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_holds_its_place_until_it_is_hung_up_on() {
    let rig = Rig::new().await;
    let mut half = Vec::new();
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(rig.secure).await.expect("connected");
        stream.write_all(begun).await.expect("sent");
        half.push(stream);
    }
    // The rig has two places: both are taken, also for plain HTTP.
    while rig.places.take(BOB).is_ok() {
        tokio::task::yield_now().await;
    }
    rig.connect(&rig.first).await.expect_err("no place");
    let began = Instant::now();
    for mut stream in half {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"", "nothing was said");
    }
    let took = began.elapsed();
    assert!(took <= HANDSHAKE_TIMEOUT * 2, "{took:?}");
    rig.free(PLACES).await;
    rig.connect(&rig.first).await.expect("there is a place again");
}

#[tokio::test]
async fn what_is_no_handshake_ends_at_once() {
    let rig = Rig::new().await;
    let mut stream = TcpStream::connect(rig.secure).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: portal.example\r\n\r\n").await.expect("sent");
    let mut said = Vec::new();
    let _ = timeout(HANDSHAKE_TIMEOUT, stream.read_to_end(&mut said)).await.expect("in time");
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    rig.free(PLACES).await;
}
