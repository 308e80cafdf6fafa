"""Password hashes, by libpass (the maintained passlib, whose name its modules keep)."""

from passlib.context import CryptContext

_BCRYPT_BYTES = 72  # it knows no more of a password; Apache's htpasswd cuts off without a word


class PasswordHashes:
    """Makes bcrypt hashes; reads those and argon2, SHA-2 crypt and Apache's salted MD5.

    Others (plain text, DES crypt, unsalted SHA-1) are as good as the password itself to whoever
    gets to see the file, and are not read. All of it takes a tenth of a second or more of a core.
    """

    def __init__(self) -> None:
        self._context = CryptContext(
            schemes=["bcrypt", "argon2", "sha512_crypt", "sha256_crypt", "apr_md5_crypt"]
        )

    def hash(self, password: str) -> str:
        """A new hash. Raises `ValueError` for a password that bcrypt could not tell from others."""
        if len(password.encode()) > _BCRYPT_BYTES or "\0" in password:
            raise ValueError(f"a password of at most {_BCRYPT_BYTES} bytes, without NUL")
        return str(self._context.hash(password))

    def is_readable(self, hashed: str) -> bool:
        """Whether the hash is one of those that are read."""
        try:
            return self._context.identify(hashed) is not None
        except (ValueError, TypeError):
            return False

    def verify(self, password: str, hashed: str) -> bool:
        """Whether the password has this hash; compared in constant time by the library."""
        secret = password.encode()
        try:
            if self._context.identify(hashed) == "bcrypt":
                secret = secret[:_BCRYPT_BYTES]
            return bool(self._context.verify(secret, hashed))
        except (ValueError, TypeError):  # a hash cut short, a password with a NUL
            return False
