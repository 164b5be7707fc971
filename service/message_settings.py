"""The settings of what the service sends out: the webhook, and messages to users."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

from service.secret_texts import read_webhook_secret
from service.smtp_url import read_smtp_url
from service.values import Folder, LanguageTag, MailSender, check_http_url, is_loopback

MessageTransport = Literal["smtp", "files", "webhook"]
"""`smtp`: a mail server. `files`: the data folder, for one machine. `webhook`: the host application."""


class MessageSettings(BaseModel):
    """The part of `settings.Settings` that is about the webhook and messages to users."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    webhook_url: str | None = None
    """The URL to which events are posted, signed (Standard Webhooks). Use https unless the receiver is on loopback;
    Keyturn does not enforce it. Unset: nowhere."""
    webhook_secret: SecretStr | None = None
    """The secret that signs what the webhook sends: `whsec_` and 24 to 64 bytes in base64. Required with
    `KEYTURN_WEBHOOK_URL`. Make one with `echo whsec_$(openssl rand -base64 32)`."""
    messages: Literal["webhook", "off"] | None = None
    """How messages to users leave. `webhook`: the host application sends what it gets at `KEYTURN_WEBHOOK_URL`.
    `off`: not at all. Unset: by `KEYTURN_SMTP_URL`; without it as files in the folder `mail` of the data folder, if
    host and issuer are on loopback; otherwise not at all."""
    smtp_url: SecretStr | None = None
    """The mail server: `smtp://user:password@host:587`, which needs STARTTLS, or `smtps://user:password@host:465`.
    Percent-encode the password. Without TLS, Keyturn sends mail only to a server on loopback, and sends no
    credentials."""
    mail_from: MailSender | None = None
    """The sender of messages: `Example <noreply@example.com>`. Required with `KEYTURN_SMTP_URL`."""
    page_url: str | None = None
    """The page to which the links in messages lead. The token is in the fragment. Unset: `/account` at the issuer."""
    templates_dir: Folder | None = None
    """A folder with templates that replace those of the same name, such as `de/password_reset.txt`, or add
    languages."""
    locale: LanguageTag = "en"
    """The language of messages to users who have none (RFC 5646). Keyturn has `en`, `de`, `fr` and `es`."""

    @field_validator("page_url")
    @classmethod
    def _check_page_url(cls, url: str | None) -> str | None:
        return None if url is None else check_http_url(url)

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: str | None) -> str | None:
        return None if url is None else check_http_url(url, may_have_query=True)

    @model_validator(mode="after")
    def _check_webhook_secret(self) -> Self:
        if self.webhook_url is not None and self.webhook_secret is None:
            raise ValueError(
                "KEYTURN_WEBHOOK_URL is set without KEYTURN_WEBHOOK_SECRET: receivers could not verify the sender. "
                "Set it to the output of: echo whsec_$(openssl rand -base64 32)"
            )
        if self.webhook_secret is not None:
            read_webhook_secret(self.webhook_secret.get_secret_value())
        return self

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if self.smtp_url is not None:
            read_smtp_url(self.smtp_url.get_secret_value())  # raises a ValueError that names what is wrong
            if self.mail_from is None:
                raise ValueError(
                    "KEYTURN_SMTP_URL is set without KEYTURN_MAIL_FROM. Set it to the sender of messages, like "
                    "noreply@example.com"
                )
        if self.messages == "webhook":
            if self.webhook_url is None:
                raise ValueError("KEYTURN_MESSAGES is webhook, which needs KEYTURN_WEBHOOK_URL. Set it")
            if self.smtp_url is not None:
                raise ValueError("KEYTURN_MESSAGES is webhook, and KEYTURN_SMTP_URL is set too. Unset one")
        return self

    def choose_transport(self, issuer: str, *, listens_on_loopback: bool) -> MessageTransport | None:
        """Return the transport; `None`: messages are not sent. Files need a service on loopback only."""
        if self.messages is not None:
            return None if self.messages == "off" else self.messages
        if self.smtp_url is not None:
            return "smtp"
        is_local = listens_on_loopback and is_loopback(urlsplit(issuer).hostname or "")
        return "files" if is_local else None
