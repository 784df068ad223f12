"""The model's name in a request, replaced by the name that the chosen instance knows.

Filters of the cluster, not of the listener: each attempt passes them once its endpoint is chosen,
so a retry on another instance carries that instance's name. The name comes from the endpoint's
metadata; Lua puts it into JSON bodies, forms and the query. Answers pass untouched.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from controlplane.resources import names
from controlplane.resources.bodies import FIND_IN_FORM
from controlplane.resources.packing import pack

_SERVED_AS = "x-cats-served-as"
_MODEL = "x-cats-endpoint-model"
"""Request headers from the one filter to the other; the second removes them."""

_REWRITE = f"""{FIND_IN_FORM}
-- Return where the string that begins at a quote ends.
local function end_of_string(text, quote)
  local stop = quote
  while true do
    stop = text:find('"', stop + 1, true)
    if not stop then return nil end
    local before = stop - 1
    while text:byte(before) == 92 do before = before - 1 end
    if (stop - before) % 2 == 1 then return stop end
  end
end

-- Return whether a string with its quotes reads "model", each letter escaped or not.
local function is_model(quoted)
  if #quoted > 7 and quoted:find("\\\\", 1, true) then
    quoted = quoted:gsub("\\\\u00(%x%x)", function(code) return string.char(tonumber(code, 16)) end)
  end
  return quoted == '"model"'
end

-- Return the text with the values of the outermost object's member "model" replaced.
local function replace_in_json(text, name)
  local parts, kept, at, depth = {{}}, 1, 1, 0
  while true do
    local mark = text:find('["{{}}%[%]]', at)
    if not mark then break end
    local byte = text:byte(mark)
    if byte == 34 then
      local stop = end_of_string(text, mark)
      if not stop then break end
      at = stop + 1
      if depth == 1 and stop - mark <= 31 and is_model(text:sub(mark, stop)) then
        local quote = text:match('^%s*:%s*()"', at)
        local last = quote and end_of_string(text, quote)
        if last then
          parts[#parts + 1] = text:sub(kept, quote)
          parts[#parts + 1] = name
          kept, at = last, last + 1
        end
      end
    else
      depth = depth + ((byte == 123 or byte == 91) and 1 or -1)
      at = mark + 1
    end
  end
  if kept == 1 then return nil end
  parts[#parts + 1] = text:sub(kept)
  return table.concat(parts)
end

-- Replace the query's member "model", which realtime connections have in place of a body.
local function replace_in_query(headers, name)
  local path = headers:get(":path")
  local mark = path:find("?", 1, true)
  if not mark or not path:find("[?&]model=", mark) then return end
  local query = path:sub(mark):gsub("([?&]model=)[^&]*", function(member)
    return member .. name:gsub("%+", "%%2B")
  end)
  headers:replace(":path", path:sub(1, mark - 1) .. query)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = headers:get("{_SERVED_AS}")
  if not name or name == "" or name == "-" then name = headers:get("{_MODEL}") end
  headers:remove("{_SERVED_AS}")
  headers:remove("{_MODEL}")
  if not name or name == "" or name == "-" then return end
  replace_in_query(headers, name)
  if headers:get("content-encoding") then return end
  local content_type = headers:get("content-type") or ""
  local kind = content_type:lower()
  local form = kind:find("^multipart/form%-data") ~= nil
  if not form and not kind:find("^application/[%w.+-]*json") then return end
  local body = handle:body()
  if not body then return end
  local text, changed = body:getBytes(0, body:length()), nil
  if form then
    local from, to = find_in_form(text, content_type, "model")
    if from then changed = text:sub(1, from - 1) .. name .. text:sub(to + 1) end
  else
    changed = replace_in_json(text, name)
  end
  if changed and changed ~= text then
    headers:replace("content-length", tostring(body:setBytes(changed)))
  end
end
"""


def build_rewriting_filters() -> list[HttpFilter]:
    """Build the upstream filters of a cluster whose requests need the name replaced."""
    return [
        HttpFilter(
            name="envoy.filters.http.header_mutation",
            typed_config=pack(
                HeaderMutation(
                    mutations=Mutations(
                        request_mutations=[
                            _set(_SERVED_AS, names.METADATA_SERVED_AS),
                            _set(_MODEL, names.METADATA_MODEL),
                        ]
                    )
                )
            ),
        ),
        HttpFilter(
            name="envoy.filters.http.lua",
            typed_config=pack(Lua(default_source_code=DataSource(inline_string=_REWRITE))),
        ),
    ]


def _set(header: str, key: str) -> Mutation:
    return Mutation(
        append=HeaderValueOption(
            header=HeaderValue(key=header, value=f"%UPSTREAM_METADATA({names.METADATA}:{key})%"),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    )
