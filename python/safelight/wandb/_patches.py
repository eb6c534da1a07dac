"""The methods that replace those of wandb while pictures are handed over.

The classes of wandb stay what they are, so that `isinstance`, tables and code that imported them before go on as they
did. An object has a `Handover` in `_safelight` as long as its file was not made by wandb:

| state | `_path` | becomes |
| --- | --- | --- |
| kept: only the raw values were copied | missing | promised, when it is logged; made, when anything asks for its file |
| promised: its name is in a row of the run | the file that will be there | made, when anything asks for its file |
| made: by wandb itself; `_safelight` is gone | the file | |
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import logging
import os
import sys
import threading
from typing import Any, Callable, Iterable, Iterator

from ._names import LAZY, Library, publish
from ._picture import Handover, mask_of, picture_of
from ._files import keep, read
from ._runs import Runs

__all__ = ["Patches"]

_LOGGER = logging.getLogger("safelight")


class LogCall(threading.local):
    """The call of `Run.log` that this thread is in."""

    # Number of nested calls. Only a signal handler logs within a call.
    depth = 0
    # The argument `step` of the innermost call.
    step: int | None = None


class Patches:
    """Replaces methods of wandb, and puts them back."""

    def __init__(self, library: Library, profile: str, runs: Runs) -> None:
        self._library = library
        self._profile = profile
        self._runs = runs
        self._call = LogCall()
        self._replaced: list[tuple[Any, str, Any]] = []

    def apply(self) -> None:
        image, mask, media, run = (getattr(self._library, name) for name in ("image", "mask", "media", "run"))
        self._replace(image, "__init__", self._image_init)
        self._replace(image, "bind_to_run", self._image_bind)
        self._replace(mask, "__init__", self._mask_init)
        self._replace(media, "bind_to_run", self._media_bind)
        self._replace(media, "to_json", self._media_to_json)
        self._replace(run, "log", self._run_log)
        self._replace(run, "_finish", self._run_finish)
        self._replace_seq_to_json(image)
        self._replace_image(image)
        for kind in (image, mask):
            self._set(kind, "__getattr__", self._getattr)

    def undo(self) -> None:
        for owner, name, original in reversed(self._replaced):
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._replaced.clear()

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, owner.__dict__.get(name)))
        setattr(owner, name, value)

    def _replace(self, owner: Any, name: str, ours: Callable[..., Any]) -> None:
        """`ours` takes the method that it replaces as its first argument."""
        original = owner.__dict__[name]

        @functools.wraps(original)
        def method(self: Any, *args: Any, **options: Any) -> Any:
            return ours(original, self, *args, **options)

        self._set(owner, name, method)

    # --- Making of images and masks.

    def _image_init(self, original: Any, image: Any, *args: Any, **options: Any) -> None:
        found = None
        try:
            given = _signature(original).bind(image, *args, **options).arguments
        except TypeError:
            # wandb says what is wrong with the call.
            original(image, *args, **options)
            return
        try:
            data = given["data_or_path"]
            if isinstance(data, self._library.image):
                self._make(data)
            elif type(image) is self._library.image:
                # A run is begun here, so that a large copy goes to its directory at once.
                self._runs.begin()
                mode, file_type, normalize = map(given.get, ("mode", "file_type", "normalize"))
                found = picture_of(data, mode, file_type, normalize, self._profile)
        except Exception as error:
            _warn("a picture", error)
        if found is None:
            original(image, *args, **options)
            return
        # wandb copies what it knows of the file from another Image, and then adds the annotations.
        arguments = {name: value for name, value in given.items() if name != "self"}
        arguments["data_or_path"] = self._template(found, given.get("caption"))
        original(image, **arguments)
        self._keep(image, found)

    def _template(self, found: Handover, caption: Any) -> Any:
        """An Image without a file."""
        template = self._library.image.__new__(self._library.image)
        template.__dict__.update(dict.fromkeys(LAZY), format="png", _file_type=None, _image=None)
        template.__dict__.update(
            dict.fromkeys(("_grouping", "_classes", "_artifact_source", "_artifact_target"))
        )
        template._caption, (template._width, template._height) = caption, found.size
        return template

    @staticmethod
    def _keep(media: Any, found: Handover) -> None:
        for name in LAZY:
            media.__dict__.pop(name, None)
        media._safelight = found

    def _mask_init(self, original: Any, mask: Any, val: Any, key: Any) -> None:
        """Source: wandb 0.31.0 `sdk/data_types/helper_types/image_mask.py`, without the encoding."""
        values = val.get("mask_data") if isinstance(val, dict) and "path" not in val else None
        if values is None or "numpy" not in sys.modules:
            original(mask, val, key)
            return
        if callable(getattr(values, "cpu", None)) and type(values).__module__.partition(".")[0] == "torch":
            values = values.cpu().numpy()
        if type(values) is not sys.modules["numpy"].ndarray or values.dtype.kind not in "biu":
            original(mask, val, key)
            return
        self._library.media.__init__(mask)
        val["mask_data"] = values
        if "class_labels" not in val:
            ids = sys.modules["numpy"].unique(values).astype("int32").tolist()
            val["class_labels"] = {id: f"class_{id}" for id in ids}
        mask.validate(val)
        mask._val, mask._key = val, key
        found = mask_of(values)
        if found is None:
            original(mask, val, key)
            return
        self._keep(mask, found)

    # --- Logging.

    def _run_log(self, original: Any, run: Any, *args: Any, **options: Any) -> Any:
        with self._logging(original, run, args, options):
            return original(run, *args, **options)

    @contextlib.contextmanager
    def _logging(self, original: Any, run: Any, args: Any, options: Any) -> Iterator[None]:
        before = self._call.step
        self._call.depth += 1
        try:
            step = _signature(original).bind(run, *args, **options).arguments.get("step")
            self._call.step = None if step is None else int(step)
        except Exception:
            # wandb says what is wrong with the call.
            self._call.step = None
        try:
            yield
        finally:
            self._call.step = before
            self._call.depth -= 1
            self._end_call(run)

    def _end_call(self, run: Any) -> None:
        try:
            self._make_promised(run, self._runs.logged(run))
        except Exception as error:
            _warn("a picture", error)

    def _make_promised(self, run: Any, parts: Iterable[tuple[Any, str]]) -> None:
        """Lets wandb encode files that a row names, and publishes them. A failure of one costs no other."""
        for part, name in parts:
            try:
                self._make(part)
                keep(read(part._path), os.path.join(run.dir, name))
                publish(run, [name])
            except Exception as error:
                _LOGGER.warning("%s is not in the W&B run: %s: %s", name, type(error).__name__, error)

    def _image_bind(
        self, original: Any, image: Any, run: Any, key: Any, step: Any, *rest: Any, **options: Any
    ) -> None:
        media = [image, *(image._masks or {}).values()]
        media = [part for part in media if "_safelight" in part.__dict__]
        ours = self._runs.of(run) if image in media and isinstance(step, int) else None
        if ours is None:
            for part in media:
                self._make(part)
            original(image, run, key, step, *rest, **options)
            return
        # wandb looks at the path before it binds the file.
        image.__dict__.setdefault("_path", None)
        original(image, run, key, step, *rest, **options)
        now = step if self._call.step is None else self._call.step
        parts = [(part, part._safelight.name) for part in media]
        if not ours.log(str(key), now, image, parts):
            self._make_promised(run, parts)
        if self._call.depth == 0:
            self._end_call(run)

    def _media_bind(
        self,
        original: Any,
        media: Any,
        run: Any,
        key: Any,
        step: Any,
        id_: Any = None,
        *rest: Any,
        **options: Any,
    ) -> None:
        found = media.__dict__.get("_safelight")
        if found is None:
            original(media, run, key, step, id_, *rest, **options)
            return
        # As long as the digest of a file has in its name.
        file_name = self._library.file_name
        assert file_name is not None
        name = file_name(key, step, os.urandom(10).hex() if id_ is None else id_, found.extension)
        found.name = os.path.join(media.get_media_subdir(), name)
        media._run = run
        media._path = os.path.join(run.dir, found.name)

    def _media_to_json(self, original: Any, media: Any, run: Any) -> Any:
        if "_safelight" not in media.__dict__:
            return original(media, run)
        if not isinstance(run, self._library.run):
            self._make(media)
            return original(media, run)
        # Digest and size are not known yet.
        media.__dict__.update(_sha256=None, _size=None)
        try:
            row = original(media, run)
        finally:
            del media.__dict__["_sha256"], media.__dict__["_size"]
        return {name: value for name, value in row.items() if name not in ("sha256", "size")}

    def _replace_seq_to_json(self, owner: Any) -> None:
        original = owner.__dict__["seq_to_json"]

        @functools.wraps(original.__func__)
        def seq_to_json(kind: Any, seq: Any, *args: Any, **options: Any) -> Any:
            # wandb opens each picture for its size.
            promised = [item for item in seq if "_safelight" in item.__dict__]
            for item in promised:
                item._image = item._safelight.stand_in()
            try:
                return original.__func__(kind, seq, *args, **options)
            finally:
                for item in promised:
                    item._image = None

        self._set(owner, "seq_to_json", classmethod(seq_to_json))

    def _run_finish(self, original: Any, run: Any, *args: Any, **options: Any) -> Any:
        try:
            exit_code = _signature(original).bind(run, *args, **options).arguments.get("exit_code")
            self._runs.finish(run, is_failed=bool(exit_code))
        except Exception as error:
            _warn("the end of the run", error)
        return original(run, *args, **options)

    # --- Files that wandb makes after all.

    def _replace_image(self, owner: Any) -> None:
        original = owner.__dict__["image"]

        def image(media: Any) -> Any:
            if media._image is None and media.__dict__.get("_path") is not None:
                self._make(media)
            return original.fget(media)

        self._set(owner, "image", property(image, doc=original.__doc__))

    @property
    def _getattr(self) -> Any:
        def getattr_(media: Any, name: str) -> Any:
            if name in LAZY and "_safelight" in media.__dict__:
                self._make(media)
                return media.__dict__[name]
            raise AttributeError(f"{type(media).__name__!r} object has no attribute {name!r}")

        return getattr_

    def _make(self, media: Any) -> None:
        """Lets wandb encode the file of an object, if it was not made yet."""
        found = media.__dict__.get("_safelight")
        if found is None:
            return
        path = media.__dict__.get("_path") if found.name is not None else None
        made = self._library.mask if found.picture is None else self._library.image
        made = made.__new__(made)
        if found.picture is None:
            self._library.mask_init(made, {"mask_data": found.values(), "class_labels": {}}, "")
        else:
            self._library.image_init(made, found.values(), **found.options)
        own = {name: made.__dict__.get(name) for name in LAZY}
        if path is not None:
            # A row has this name. If the file is there already, it stays.
            keep(read(own["_path"]), path)
            os.unlink(own["_path"])
            content = read(path)
            own.update(
                _path=path, _is_tmp=False, _sha256=hashlib.sha256(content).hexdigest(), _size=len(content)
            )
        media.__dict__.update(own)
        # Only now: if it fails, the next attempt finds the values.
        media.__dict__.pop("_safelight", None)


@functools.lru_cache(maxsize=None)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _warn(what: str, error: Exception) -> None:
    _LOGGER.warning("%s is left to wandb: %s: %s", what, type(error).__name__, error)
