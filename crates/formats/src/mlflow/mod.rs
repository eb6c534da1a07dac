//! What the pages of `MLflow` read: names of artifacts, tags of a run, pictures. Pure.
//!
//! Below a run's artifacts:
//!
//! | path | what |
//! | --- | --- |
//! | `images/KEY+step+N+timestamp+MS+UUID.png` | the picture, PNG or WebP |
//! | `images/KEY+step+N+timestamp+MS+UUID+compressed.png` | its thumbnail |
//! | `media/KEY/N-INDEX-UUID.json` | all that is known of it |
//! | `media/KEY/N-INDEX-UUID.mask.NAME.png`, `….boxes.NAME.json` | a mask, a set of boxes |
//! | `media/KEY/N-INDEX-UUID.jpg` | the file itself, if the page can't show its kind |
//!
//! One other name in `images/`, and the page shows none of the run's pictures. In `KEY` a slash is `~` there.

mod identity;
mod names;
mod pictures;

pub use self::identity::{parameters, run_name, tags};
pub use self::names::Names;
pub use self::pictures::{PIXELS_MAX, Pictures, pictures};
