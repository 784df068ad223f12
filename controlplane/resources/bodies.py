"""How Envoys read the model that a request's body names: which filters, and on which routes.

The filters are in every listener, switched off, and routes switch them on. So a change of services
changes routes alone (a changed listener drains all its connections), and only requests that a match
on the model competes for are buffered. Such a request first takes a route that reads it; then Envoy
looks for its route again, with what was read.
"""

from __future__ import annotations

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    RuntimeFeatureFlag,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.route.v3 import FilterConfig, HeaderMatcher
from envoy_data_plane.envoy.extensions.compression.brotli.decompressor.v3 import Brotli
from envoy_data_plane.envoy.extensions.compression.gzip.decompressor.v3 import Gzip
from envoy_data_plane.envoy.extensions.compression.zstd.decompressor.v3 import Zstd
from envoy_data_plane.envoy.extensions.filters.http.decompressor.v3 import (
    Decompressor,
    DecompressorCommonDirectionConfig,
    DecompressorRequestDirectionConfig,
    DecompressorResponseDirectionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.json_to_metadata.v3 import (
    JsonToMetadata,
    JsonToMetadataKeyValuePair,
    JsonToMetadataMatchRules,
    JsonToMetadataRule,
    JsonToMetadataSelector,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.google.protobuf import Any as PackedAny
from envoy_data_plane.google.protobuf import Value

from controlplane.resources import names
from controlplane.resources.packing import pack

_JSON = r"(?i)application/([\w.+-]+\+)?json\s*(;.*)?"
_FORM = r"(?i)multipart/form-data\s*;.*"
_INFLATED = r"(?i)\s*(gzip|br|zstd|identity)?\s*"
"""Content encodings that are inflated, or are none."""

_JSON_READER = "envoy.filters.http.json_to_metadata"
_FORM_READER = "cats.form_reader"
_ON = pack(FilterConfig(config=PackedAny()))
_INFLATERS: dict[str, tuple[str, type[betterproto2.Message]]] = {
    "cats.gzip": ("gzip", Gzip),
    "cats.brotli": ("brotli", Brotli),
    "cats.zstd": ("zstd", Zstd),
}

FIND_IN_FORM = """
-- Return where the value of a form's field begins and ends; nil if there is none.
local function find_in_form(text, content_type, field)
  local boundary = content_type:match('[Bb][Oo][Uu][Nn][Dd][Aa][Rr][Yy]="?([^";]+)')
  if not boundary then return nil end
  local mark, at = "--" .. boundary, 1
  while true do
    local _, part = text:find(mark, at, true)
    if not part then return nil end
    local head_end, value = text:find("\\r\\n\\r\\n", part, true)
    if not head_end then return nil end
    local head = text:sub(part, math.min(head_end, part + 1024))
    -- Other headers of a part may have a name as well.
    local line = head:lower():find("\\r\\ncontent-disposition:", 1, true)
    local disposition = line and head:match("[^\\r\\n]+", line) or ""
    local name = disposition:match(';%s*[Nn][Aa][Mm][Ee]="([^"]*)"')
      or disposition:match(';%s*[Nn][Aa][Mm][Ee]=([^%s;"]+)')
    if name == field then
      local stop = text:find("\\r\\n" .. mark, value, true)
      return value + 1, (stop or #text + 1) - 1
    end
    at = part + 1
  end
end
"""
"""Lua that finds a field of a ``multipart/form-data`` body [RFC 7578]; whole parts stay unread."""

_READ_FORM = f"""{FIND_IN_FORM}
function envoy_on_request(handle)
  local model = false
  local body = handle:body()
  if body then
    local text = body:getBytes(0, body:length())
    local from, to = find_in_form(text, handle:headers():get("content-type") or "", "model")
    if from and to - from < 256 then model = text:sub(from, to) end
  end
  handle:streamInfo():dynamicMetadata():set("{names.BODY_METADATA}", "{names.BODY_MODEL}", model)
  handle:clearRouteCache()
end
"""


def build_body_filters() -> list[HttpFilter]:
    """Build the filters that inflate and read bodies; each does nothing until a route wants it."""
    return [
        *(
            HttpFilter(name=name, typed_config=pack(_inflater(library, kind())), disabled=True)
            for name, (library, kind) in _INFLATERS.items()
        ),
        HttpFilter(name=_JSON_READER, typed_config=pack(_json_reader()), disabled=True),
        HttpFilter(
            name=_FORM_READER,
            typed_config=pack(Lua(default_source_code=DataSource(inline_string=_READ_FORM))),
            disabled=True,
        ),
    ]


def _inflater(library: str, kind: betterproto2.Message) -> Decompressor:
    # The body's limit holds for what comes out, too: the filters behind this one buffer it. One
    # piece may grow a hundredfold (gzip's default) before that limit is looked at.
    off = RuntimeFeatureFlag(default_value=False, runtime_key="cats.unused")
    return Decompressor(
        decompressor_library=TypedExtensionConfig(
            name=f"envoy.compression.{library}.decompressor", typed_config=pack(kind)
        ),
        request_direction_config=DecompressorRequestDirectionConfig(
            common_config=DecompressorCommonDirectionConfig(),
            advertise_accept_encoding=False,
        ),
        response_direction_config=DecompressorResponseDirectionConfig(
            common_config=DecompressorCommonDirectionConfig(enabled=off)
        ),
    )


def _json_reader() -> JsonToMetadata:
    return JsonToMetadata(
        request_rules=JsonToMetadataMatchRules(
            allow_content_types_regex=RegexMatcher(regex=_JSON),
            rules=[
                JsonToMetadataRule(
                    selectors=[JsonToMetadataSelector(key="model")],
                    on_present=JsonToMetadataKeyValuePair(
                        metadata_namespace=names.BODY_METADATA, key=names.BODY_MODEL
                    ),
                    on_missing=JsonToMetadataKeyValuePair(
                        metadata_namespace=names.BODY_METADATA,
                        key=names.BODY_MODEL,
                        value=Value(bool_value=False),
                    ),
                    on_error=JsonToMetadataKeyValuePair(
                        metadata_namespace=names.BODY_METADATA,
                        key=names.BODY_UNREADABLE,
                        value=Value(bool_value=True),
                    ),
                )
            ],
        )
    )


def switched_on(*, form: bool) -> dict[str, PackedAny]:
    """Build a route's ``typed_per_filter_config`` that has its requests read."""
    return {**inflating(), _FORM_READER if form else _JSON_READER: _ON}


def inflating() -> dict[str, PackedAny]:
    """Build a route's ``typed_per_filter_config`` that has its requests' bodies inflated."""
    return dict.fromkeys(_INFLATERS, _ON)


def content_type(*, form: bool) -> HeaderMatcher:
    """Build the condition that a request's body is one that can be read."""
    return _regex("content-type", _FORM if form else _JSON)


def unknown_encoding() -> HeaderMatcher:
    """Build the condition that a body is compressed in a way that Envoy cannot inflate."""
    matcher = _regex("content-encoding", _INFLATED)
    matcher.invert_match = True
    return matcher


def _regex(header: str, regex: str) -> HeaderMatcher:
    return HeaderMatcher(
        name=header, string_match=StringMatcher(safe_regex=RegexMatcher(regex=regex))
    )


def not_read_yet() -> MetadataMatcher:
    """Build the condition that the body was not looked at."""
    return _metadata(names.BODY_MODEL, ValueMatcher(present_match=True), invert=True)


def model_is(model: str) -> MetadataMatcher:
    """Build the condition that the body names *model*."""
    return _metadata(names.BODY_MODEL, ValueMatcher(string_match=StringMatcher(exact=model)))


def unreadable() -> MetadataMatcher:
    """Build the condition that the body says it is JSON and is not."""
    return _metadata(names.BODY_UNREADABLE, ValueMatcher(bool_match=True))


def names_none() -> MetadataMatcher:
    """Build the condition that the body was read and names no model."""
    return _metadata(names.BODY_MODEL, ValueMatcher(bool_match=False))


def _metadata(key: str, value: ValueMatcher, *, invert: bool = False) -> MetadataMatcher:
    return MetadataMatcher(
        filter=names.BODY_METADATA,
        path=[MetadataMatcherPathSegment(key=key)],
        value=value,
        invert=invert,
    )
