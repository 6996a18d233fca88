"""The server's side of PMI-1 (spec 04, 3.2). Pure: lines in, lines for the ranks out.

    for rank, line in server.request(rank, line): send(rank, line)

Rules:
- What a rank sends is taken at its word and nothing else: names and values are only stored.
- A barrier is over when all ranks have entered; one that has gone will not, and so nobody waits for it: see `gone`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fluxlet.overlay.bootstrap.pmi_wire import (
    INVALID_KEY,
    INVALID_KEY_LENGTH,
    INVALID_LENGTH,
    INVALID_VALUE_LENGTH,
    KEY_MAX,
    KVSNAME_MAX,
    VALUE_MAX,
    PmiError,
    parse,
)


class Abort(PmiError):
    """A rank asks for the end of all.

    Args:
        code: exit code.
        text: what it says about it.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class PmiServer:
    """The key-value space and the barriers of one launch.

    Args:
        size: number of ranks.
        values: what is there from the start.
        kvsname: of the space.
    """

    def __init__(self, size: int, values: Mapping[str, str], kvsname: str = "-") -> None:
        self.size = size
        self.values = dict(values)
        self.kvsname = kvsname
        self.finalized: set[int] = set()
        self._entered: set[int] = set()
        self._spawning: set[int] = set()

    def request(self, rank: int, line: str) -> list[tuple[int, str]]:
        """Takes a line of a rank; returns (rank, line) to send. Raises PmiError; Abort if the rank wants that."""
        if rank in self._spawning:
            if line != "endcmd":
                return []
            self._spawning.discard(rank)
            return [(rank, "cmd=spawn_result rc=-1")]
        words = parse(line)
        if words.get("mcmd") == "spawn":
            self._spawning.add(rank)
            return []
        match words.get("cmd"):
            case "init":
                return [(rank, self._init(words))]
            case "get_maxes":
                maxes = f"kvsname_max={KVSNAME_MAX} keylen_max={KEY_MAX} vallen_max={VALUE_MAX}"
                return [(rank, f"cmd=maxes rc=0 {maxes}")]
            case "get_my_kvsname":
                return [(rank, f"cmd=my_kvsname rc=0 kvsname={self.kvsname}")]
            case "get_universe_size":
                return [(rank, f"cmd=universe_size rc=0 size={self.size}")]
            case "get_appnum":
                return [(rank, "cmd=appnum rc=0 appnum=0")]
            case "put":
                return [(rank, f"cmd=put_result rc={self._put(words)}")]
            case "get":
                return [(rank, self._get(words))]
            case "barrier_in":
                return self._barrier(rank)
            case "finalize":
                self.finalized.add(rank)
                return [(rank, "cmd=finalize_ack rc=0")]
            case "abort":
                code = words.get("exitcode", "1")
                number = int(code) if code.isascii() and code.removeprefix("-").isdigit() else 1
                raise Abort(number, words.get("error_msg", ""))
            case "publish_name" | "unpublish_name" | "lookup_name" as command:
                name = {"publish_name": "publish", "unpublish_name": "unpublish", "lookup_name": "lookup"}[command]
                return [(rank, f"cmd={name}_result rc=-1 msg=command not implemented")]
            case _:
                raise PmiError(f"unknown PMI command: {line[:80]!r}")

    @staticmethod
    def _init(words: Mapping[str, str]) -> str:
        version = (words.get("pmi_version", ""), words.get("pmi_subversion", ""))
        if version[0] != "1" or version[1] in ("", "0"):
            return "cmd=response_to_init rc=-1"
        return "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1"

    def _put(self, words: Mapping[str, str]) -> int:
        key, value = words.get("key"), words.get("value")
        if key is None or value is None:
            raise PmiError("put without key or value")
        if len(words.get("kvsname", "").encode("utf-8", "surrogateescape")) >= KVSNAME_MAX:
            return INVALID_LENGTH
        if len(key.encode("utf-8", "surrogateescape")) >= KEY_MAX:
            return INVALID_KEY_LENGTH
        if len(value.encode("utf-8", "surrogateescape")) >= VALUE_MAX:
            return INVALID_VALUE_LENGTH
        self.values[key] = value
        return 0

    def _get(self, words: Mapping[str, str]) -> str:
        if "key" not in words:
            raise PmiError("get without key")
        value = self.values.get(words["key"])
        return f"cmd=get_result rc={INVALID_KEY}" if value is None else f"cmd=get_result rc=0 value={value}"

    def _barrier(self, rank: int) -> list[tuple[int, str]]:
        if rank in self._entered:
            raise PmiError("barrier_in within a barrier")
        self._entered.add(rank)
        if len(self._entered) < self.size:
            return []
        self._entered.clear()
        return [(other, "cmd=barrier_out rc=0") for other in range(self.size)]
