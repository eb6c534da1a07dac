//! What `MLflow`'s pages read: names of artifacts, tags of a run, pictures.
//!
//! Below a run's artifacts:
//!
//! | path | what |
//! | --- | --- |
//! | `images/KEY+step+N+timestamp+MS+UUID.png` | the picture, PNG or WebP |
//! | `images/KEY+step+N+timestamp+MS+UUID+compressed.png` | its thumbnail |
//! | `media/KEY/N-INDEX-UUID.json` | its full record |
//! | `media/KEY/N-INDEX-UUID.mask.NAME.png`, `….boxes.NAME.json` | a mask, a set of boxes |
//! | `media/KEY/N-INDEX-UUID.jpg` | the file itself, if the page can't show its kind |
//!
//! If `images/` holds a name of any other form, the page shows no picture of the run. In the `KEY` of `images/` a
//! slash is written `~`.

mod identity;
mod names;
mod pictures;

pub use self::identity::{parameters, run_name, tags};
pub use self::names::Names;
pub use self::pictures::{PIXELS_MAX, Pictures, pictures};
