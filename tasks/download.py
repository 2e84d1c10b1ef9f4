"""Downloads through pooch: a cache folder, a checksum, a progress bar, and one line when it does not work."""

from pathlib import Path


def fetch(url: str, known_hash: str, instead: str) -> Path:
    """Path of the file at `url` in the user's cache, downloaded unless it is there already.

    Args:
        url: Where the file lies.
        known_hash: `algorithm:hex digest`; a file with another digest is not used.
        instead: What the user can do without a network, for the error message.

    Raises:
        ValueError: no network, no space, or another content than expected.
    """
    import pooch  # late: only tasks whose data are not at hand need it

    pooch.get_logger().setLevel("WARNING")  # the progress bar is enough
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    try:
        path = pooch.retrieve(url, known_hash, path=pooch.os_cache("fairstep"), downloader=downloader)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong digest is a ValueError
        reason = type(error).__name__ if isinstance(error, OSError) else "its checksum is wrong"
        raise ValueError(f"cannot download {url} ({reason}); without a network use {instead}") from error
    return Path(path)
