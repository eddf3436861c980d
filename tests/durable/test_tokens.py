"""Tokens: the address of a wait, as a stranger sees it."""

import hashlib
import pickle
import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner

from skuld_async import DeclarationError
from skuld_async.contrib.itsdangerous import SignedTokens
from skuld_async.durable.tokens import BadTokenError, ExpiredTokenError, PlainTokens, Tokens

REF = "req-42/Ä ö#7"
KINDS = pytest.mark.parametrize("tokens", [PlainTokens(), SignedTokens("hush")], ids=["plain", "signed"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def _refusal(tokens: Tokens, token: str) -> BadTokenError:
    with pytest.raises(BadTokenError) as caught:
        tokens.read(token)
    return caught.value


@KINDS
@given(ref=TEXT)
def test_a_token_is_read_back_and_fits_a_url(tokens: Tokens, ref: str) -> None:
    """Any reference comes back from its token, which has only characters that need no quoting."""
    token = tokens.sign(ref)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", token)
    assert tokens.read(token) == ref


def _changed(token: str) -> set[str]:
    longer = {token + "A", token + "=", token + "\n", " " + token, "A" + token, token.replace(token[3], "*")}
    return longer | {token[:end] for end in range(len(token))} | {"ä"}


@pytest.mark.parametrize("token", sorted(_changed(PlainTokens().sign(REF))), ids=repr)
def test_a_changed_plain_token_is_another_one(token: str) -> None:
    """A part of a token, or one with a character more, is refused or leads elsewhere; none is read leniently."""
    with suppress(BadTokenError):
        assert PlainTokens().read(token) != REF


def test_a_changed_signed_token_leads_nowhere() -> None:
    """A part of a token, or one whose reference, time or signature was touched, is refused."""
    token = SignedTokens("hush").sign(REF)
    reference, made, signature = token.split(".")
    other, later = PlainTokens().sign("req-43"), SignedTokens("hush", max_age=timedelta(1)).sign("x").split(".")[1]
    for changed in (
        *(token[:end] for end in range(len(token))),
        f"{other}.{made}.{signature}",
        f"{reference}.A{later}.{signature}",
        f"{reference}.{made}.{signature[::-1]}",
    ):
        assert "signature" in str(_refusal(SignedTokens("hush"), changed))


@given(token=st.text())
def test_one_reference_has_one_plain_token(token: str) -> None:
    """Whatever text is read as a token is exactly the one that its reference has."""
    try:
        ref = PlainTokens().read(token)
    except BadTokenError:
        return
    assert PlainTokens().sign(ref) == token


@given(token=st.text())
def test_no_text_is_a_signed_token(token: str) -> None:
    """Text of a stranger is refused with the same error, whatever it is."""
    _refusal(SignedTokens("hush"), token)


def test_another_secret_or_purpose_signs_other_tokens() -> None:
    """A token that was signed with another secret, or for something else, is refused, and so is a plain one."""
    assert "signature" in str(_refusal(SignedTokens("hush"), SignedTokens("other").sign(REF)))
    assert "signature" in str(_refusal(SignedTokens("hush"), PlainTokens().sign(REF)))
    elsewhere = TimestampSigner("hush", digest_method=hashlib.sha256, key_derivation="hmac")
    assert "signature" in str(_refusal(SignedTokens("hush"), elsewhere.sign(PlainTokens().sign(REF)).decode()))


def test_a_secret_is_replaced_in_steps() -> None:
    """Of several secrets the last one signs, and each is accepted until it is dropped."""
    old, both, new = SignedTokens("old"), SignedTokens(["old", b"new"]), SignedTokens("new")
    assert both.read(old.sign(REF)) == REF
    assert new.read(both.sign(REF)) == REF
    _refusal(old, both.sign(REF))
    _refusal(new, old.sign(REF))


@pytest.mark.parametrize("nothing", ["", b"", [], ["hush", ""]], ids=repr)
def test_an_empty_secret_is_refused(nothing: str) -> None:
    """Whoever forgot to set the secret is told when the tokens are made, not by the first attacker."""
    with pytest.raises(DeclarationError, match="without a secret anybody can sign"):
        SignedTokens(nothing)


@pytest.mark.parametrize(("age", "good"), [(-30, True), (0, True), (60, True), (62, False)])
def test_a_token_expires(age: int, good: bool) -> None:
    """It is good for `max_age`, also where the clock of the reader is behind; without one it is good for ever."""
    tokens = SignedTokens("hush", max_age=timedelta(seconds=61))
    with patch("itsdangerous.timed.time.time", return_value=time.time() - age):
        token = tokens.sign(REF)
    assert SignedTokens("hush").read(token) == REF
    if good:
        assert tokens.read(token) == REF
    else:
        error = _refusal(tokens, token)
        assert isinstance(error, ExpiredTokenError)
        assert re.search(r"no longer good: it was made at 2\S+ \S+ UTC, for 0:01:01\. The inbox", str(error))


def test_the_error_says_what_to_do_and_can_be_pickled() -> None:
    """A refused token names the problem and the way out, without the token; the error survives a process pool."""
    error = _refusal(PlainTokens(), "x")
    assert error.problem == "it is not URL-safe base64 of text"
    assert (
        str(error) == f"this is no token of a wait: {error.problem}. Take it as it was given out, whole and unchanged"
    )
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again)) == (BadTokenError, str(error))


def test_the_missing_package_is_named_with_its_extra() -> None:
    """Without itsdangerous, importing the file says what to install."""
    script = "import sys; sys.modules['itsdangerous'] = None; import skuld_async.contrib.itsdangerous"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "pip install 'skuld-async[tokens]'" in done.stderr
