//! Who takes part: towns, boxes, cameras.

use serde::Serialize;

/// Where a camera's pictures come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    /// A generated piazza.
    Scene { seed: u64, light: &'static str, activity: &'static str, size: SceneSize },
    /// A video file, looped.
    Clip(std::path::PathBuf),
    /// A camera that exists: main and sub-stream addresses.
    Real { main: String, sub: Option<String>, username: String, password: String },
}

/// How much there is to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SceneSize {
    /// 1280x720, as the demo shows it.
    Full,
    /// The same size with 12 pictures a second and a sub-stream of 6.
    Slow,
    /// Small and short, for tests.
    Small,
}

impl SceneSize {
    /// Width and height of the sub-stream in pixels.
    pub fn sub_stream(self) -> (usize, usize) {
        match self {
            Self::Full | Self::Slow => (640, 360),
            Self::Small => (320, 180),
        }
    }

    pub fn sub_pictures_per_second(self) -> u32 {
        match self {
            Self::Full => 15,
            Self::Slow => 6,
            Self::Small => 5,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    /// Short name: mount point, log name.
    pub key: String,
    pub number: u32,
    pub name: String,
    pub site: String,
    pub address: String,
    pub latitude: f64,
    pub longitude: f64,
    /// Coding of a generated scene; a clip brings its own.
    pub codec: &'static str,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    pub picture: Picture,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BoxPlan {
    pub name: String,
    pub cameras: Vec<Camera>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TownPlan {
    /// Folder and short name.
    pub key: &'static str,
    pub name: &'static str,
    pub ipa_code: &'static str,
    pub boxes: Vec<BoxPlan>,
}

/// One place of the demo: key, name, site, address, latitude, longitude, light.
type Place = (&'static str, &'static str, &'static str, &'static str, f64, f64, &'static str);

const PRATO: [Place; 4] = [
    ("duomo", "Piazza del Duomo", "Centro storico", "Piazza del Duomo 1, Prato", 43.8817, 11.0977, "day"),
    ("comune", "Piazza del Comune", "Centro storico", "Piazza del Comune 2, Prato", 43.8806, 11.0965, "day"),
    ("serraglio", "Porta al Serraglio", "Stazioni", "Via della Stazione 1, Prato", 43.8860, 11.0955, "night"),
    ("carceri", "Piazza delle Carceri", "Castello", "Piazza Santa Maria delle Carceri, Prato", 43.8789, 11.0986, "day"),
];

const FIRENZE: [Place; 4] = [
    (
        "signoria",
        "Piazza della Signoria",
        "Centro storico",
        "Piazza della Signoria 1, Firenze",
        43.7696,
        11.2558,
        "day",
    ),
    ("vecchio", "Ponte Vecchio", "Lungarni", "Via Por Santa Maria 8, Firenze", 43.7687, 11.2537, "day"),
    ("croce", "Piazza Santa Croce", "Centro storico", "Piazza Santa Croce 16, Firenze", 43.7686, 11.2618, "day"),
    (
        "novella",
        "Stazione Santa Maria Novella",
        "Stazioni",
        "Piazza della Stazione, Firenze",
        43.7765,
        11.2479,
        "night",
    ),
];

/// Two towns, two boxes each, two cameras a box.
pub fn two_towns() -> Vec<TownPlan> {
    let town = |key: &'static str, name, ipa_code, places: &[Place], first_number: u32| TownPlan {
        key,
        name,
        ipa_code,
        boxes: places
            .chunks(2)
            .enumerate()
            .map(|(at, pair)| BoxPlan {
                name: format!("{key}-{}", at + 1),
                cameras: pair
                    .iter()
                    .enumerate()
                    .map(|(n, place)| generated(place, first_number + (at * 2 + n) as u32))
                    .collect(),
            })
            .collect(),
    };
    vec![
        town("prato", "Comune di Prato", "c_g999", &PRATO, 1),
        town("firenze", "Comune di Firenze", "c_d612", &FIRENZE, 5),
    ]
}

fn generated(place: &Place, number: u32) -> Camera {
    let &(key, name, site, address, latitude, longitude, light) = place;
    Camera {
        key: key.to_owned(),
        number,
        name: name.to_owned(),
        site: site.to_owned(),
        address: address.to_owned(),
        latitude,
        longitude,
        codec: "h264",
        transport: "tcp",
        picture: Picture::Scene { seed: u64::from(number), light, activity: "normal", size: SceneSize::Full },
    }
}

/// Lays other pictures over the places of the demo, in order; places that get none keep their scene.
pub fn show_instead(towns: &mut [TownPlan], pictures: Vec<(String, Picture)>) {
    let cameras = towns.iter_mut().flat_map(|town| &mut town.boxes).flat_map(|one| &mut one.cameras);
    for (camera, (name, picture)) in cameras.zip(pictures) {
        camera.name = format!("{} ({name})", camera.name);
        camera.picture = picture;
    }
}

/// A table as TOML.
pub fn to_toml(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(toml::to_string(value)?)
}
