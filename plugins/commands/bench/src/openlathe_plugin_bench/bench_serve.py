"""``core bench serve``: load on any server that speaks OpenAI's API, and how it answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from openlathe.api import Tokenizer, complain
from openlathe.spi import CheckpointError, ConfigError, OpenlatheError

from . import datasets, openai
from .datasets import Sample
from .flags import add_refusals, at_least
from .http import HttpClient
from .load import arrivals, send_all
from .openai import ENDPOINTS, Outcome
from .plot import check_plot, plot_shares
from .report import show, write_json
from .serving_metrics import TITLES, details, lines, metrics, summaries, totals

USAGE = "core bench serve [--base-url URL] [--model NAME] [flags]"
#: Between two attempts to reach a server that is not there yet.
_READY_PAUSE = 0.25
_SAMPLING: dict[str, Callable[[str], Any]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "repetition_penalty": float,
}
_GOODPUT = ("ttft", "tpot", "e2el")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_server(parser.add_argument_group("server"))
    _add_load(parser.add_argument_group("load"))
    datasets.add_arguments(parser, num_prompts=1000, random_lengths=(1024, 128))
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--ignore-eos", action="store_true", help="go on to the output length")
    for name, convert in _SAMPLING.items():
        sampling.add_argument(f"--{name.replace('_', '-')}", type=convert, metavar="X")
    sampling.add_argument("--extra-body", type=_object, default={}, metavar="JSON", help="fields of every request")
    _add_results(parser.add_argument_group("results"))
    add_refusals(parser)


def _add_server(group: Any) -> None:
    group.add_argument("--backend", "--endpoint-type", default="openai", choices=list(ENDPOINTS), metavar="NAME")
    group.add_argument("--base-url", metavar="URL", help="default: made of --host and --port")
    group.add_argument("--host", default="127.0.0.1", metavar="NAME", help="[127.0.0.1]")
    group.add_argument("--port", type=at_least(1), default=8000, metavar="N", help="[8000]")
    group.add_argument("--endpoint", metavar="PATH", help="default: the backend's")
    group.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    group.add_argument("--api-key", metavar="KEY", help="also OPENAI_API_KEY")
    group.add_argument("--model", metavar="NAME", help="default: the first that the server names")
    group.add_argument("--served-model-name", metavar="NAME", help="as requests have it; default: --model")
    group.add_argument("--tokenizer", metavar="PATH", help="directory or hub id; default: --model")
    group.add_argument(
        "--ready-check-timeout-sec", type=at_least(0), default=0, metavar="N", help="wait so long for the server [0]"
    )


def _add_load(group: Any) -> None:
    positive = at_least(1e-9, float)
    group.add_argument("--request-rate", type=positive, default=math.inf, metavar="X", help="requests a second [inf]")
    group.add_argument("--burstiness", type=positive, default=1.0, metavar="X", help="1: Poisson, less: bursts [1]")
    group.add_argument("--max-concurrency", type=at_least(1), metavar="N", help="requests at a time")
    group.add_argument("--num-warmups", type=at_least(0), default=0, metavar="N", help="requests before, uncounted [0]")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of prompts and times [0]")
    group.add_argument("--disable-tqdm", action="store_true", help="no progress bar")


def _add_results(group: Any) -> None:
    group.add_argument("--percentile-metrics", default="ttft,tpot,itl", metavar="NAMES", help="of ttft,tpot,itl,e2el")
    group.add_argument("--metric-percentiles", default="99", metavar="NUMBERS", help="such as 50,90,99 [99]")
    group.add_argument("--goodput", nargs="+", default=[], metavar="NAME:MS", help="a good request's limits")
    group.add_argument("--save-result", action="store_true", help="write the figures as JSON")
    group.add_argument("--save-detailed", action="store_true", help="and those of every request")
    group.add_argument("--append-result", action="store_true", help="add a line to the file instead")
    group.add_argument("--result-dir", type=Path, default=Path(), metavar="FOLDER")
    group.add_argument("--result-filename", metavar="NAME", help="default: backend, rate, model and time")
    group.add_argument("--metadata", nargs="*", default=[], metavar="KEY=VALUE", help="to be written with the figures")
    group.add_argument("--label", metavar="NAME", help="to be written with the figures")
    group.add_argument("--plot", type=Path, metavar="FILE", help="the shares of requests by their times: .svg or .png")


@dataclass(frozen=True)
class _Wanted:
    """The flags that are lists, read."""

    metrics: list[str]
    percentiles: list[float]
    goodput: dict[str, float]
    metadata: dict[str, str]

    @classmethod
    def read(cls, args: argparse.Namespace) -> _Wanted:
        names = [name.strip() for name in args.percentile_metrics.split(",") if name.strip()]
        for name in names:
            if name not in TITLES:
                raise ConfigError(f"--percentile-metrics has {name!r}; choose among {', '.join(TITLES)}.")
        shares = [_number("--metric-percentiles", text) for text in args.metric_percentiles.split(",")]
        if any(not 0 <= share <= 100 for share in shares):
            raise ConfigError("--metric-percentiles takes numbers from 0 to 100.")
        limits = dict(_pair("--goodput", word, ":") for word in args.goodput)
        for name in limits:
            if name not in _GOODPUT:
                raise ConfigError(f"--goodput has {name!r}; choose among {', '.join(_GOODPUT)}.")
        goodput = {name: _number("--goodput", text) for name, text in limits.items()}
        return cls(names, shares, goodput, dict(_pair("--metadata", word, "=") for word in args.metadata))


def run(args: argparse.Namespace) -> int:
    check_plot(args.plot)
    wanted = _Wanted.read(args)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(args, wanted))


async def _run(args: argparse.Namespace, wanted: _Wanted) -> int:
    client = HttpClient(args.base_url or f"http://{args.host}:{args.port}", _headers(args))
    model = args.model or await _first_model(client, args.ready_check_timeout_sec)
    # What goes before has prompts of its own, lest a counted one be in the server's prefix cache.
    drawn = datasets.load_samples(args, _tokenizer(args.tokenizer or model), args.seed, more=1 + args.num_warmups)
    samples, before = drawn[: args.num_prompts], drawn[args.num_prompts :] or drawn
    ask = _asker(client, args, args.served_model_name or model, samples)
    prepare = _asker(client, args, args.served_model_name or model, before)
    await _first_answer(prepare, args.ready_check_timeout_sec)
    bar = tqdm(total=len(samples), desc="Requests", disable=args.disable_tqdm or not sys.stderr.isatty())
    if args.num_warmups:
        now = [0.0] * args.num_warmups
        await send_all(lambda index: prepare(-1 - index % len(before)), now, args.max_concurrency, _nothing)
    times = arrivals(len(samples), args.request_rate, args.burstiness, args.seed)
    with bar:
        cpu = time.process_time()
        outcomes, duration = await send_all(ask, times, args.max_concurrency, bar.update)
        client_seconds = time.process_time() - cpu
    client.close()
    measured = metrics(outcomes)
    figures = _configuration(args, wanted, model)
    figures |= totals(outcomes, duration, wanted.goodput) | {"client_cpu_seconds": client_seconds}
    figures |= summaries(measured, wanted.metrics, wanted.percentiles)
    show("Serving Benchmark Result", lines(figures, wanted.metrics, wanted.percentiles))
    if args.save_result or args.append_result or args.save_detailed:
        path = args.result_dir / (args.result_filename or _file_name(args, model))
        write_json(path, figures | (details(outcomes) if args.save_detailed else {}), append=args.append_result)
    if args.plot is not None:
        plot_shares(args.plot, {TITLES[name][1]: measured[name] for name in wanted.metrics}, "ms")
    errors = [outcome.error for outcome in outcomes if not outcome.success]
    if errors:
        complain(f"error: {errors[0]}" + (f" ({len(errors)} requests failed.)" if len(errors) > 1 else ""))
    return 1 if errors else 0


def _asker(client: HttpClient, args: argparse.Namespace, model: str, samples: Sequence[Sample]) -> Any:
    """Sends the request with a number; all are written beforehand, so that sending them takes no time."""
    fields = {name: getattr(args, name) for name in _SAMPLING if getattr(args, name) is not None}
    fields |= {"ignore_eos": True} if args.ignore_eos else {}
    fields |= args.extra_body
    requests = [openai.body(args.backend, model, sample, fields) for sample in samples]
    endpoint = args.endpoint or ENDPOINTS[args.backend]

    async def ask(index: int) -> Outcome:
        return await openai.ask(client, endpoint, requests[index], samples[index])

    return ask


async def _first_answer(ask: Any, timeout: float) -> None:
    """One request for a trial, again until it is answered or ``timeout`` has passed; raises ``OpenlatheError``."""
    end = time.monotonic() + timeout
    while True:
        outcome: Outcome = await ask(0)
        if outcome.success:
            return
        if time.monotonic() >= end:
            raise OpenlatheError(outcome.error)
        await asyncio.sleep(_READY_PAUSE)


async def _first_model(client: HttpClient, timeout: float) -> str:
    end = time.monotonic() + timeout
    while True:
        try:
            return str(json.loads(await client.get("/v1/models"))["data"][0]["id"])
        except (ValueError, LookupError, TypeError):
            raise OpenlatheError(f"{client.url} names no model; give --model.") from None
        except OpenlatheError:
            if time.monotonic() >= end:
                raise
        await asyncio.sleep(_READY_PAUSE)


def _tokenizer(path: str) -> Tokenizer:
    try:
        return Tokenizer.load(path)
    except CheckpointError as error:
        raise ConfigError(f"Prompts need the model's tokenizer; say with --tokenizer where it lies. {error}") from None


def _headers(args: argparse.Namespace) -> dict[str, str]:
    key = args.api_key or os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return headers | dict(_pair("--header", word, "=") for word in args.header)


def _configuration(args: argparse.Namespace, wanted: _Wanted, model: str) -> dict[str, Any]:
    """What was asked for, by vLLM's names."""
    return {
        "date": datetime.now().strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": args.backend,
        "backend": args.backend,
        "label": args.label,
        "model_id": model,
        "tokenizer_id": args.tokenizer or model,
        "num_prompts": args.num_prompts,
        **wanted.metadata,
        "request_rate": "inf" if math.isinf(args.request_rate) else args.request_rate,
        "burstiness": args.burstiness,
        "max_concurrency": args.max_concurrency,
    }


def _file_name(args: argparse.Namespace, model: str) -> str:
    at_once = "" if args.max_concurrency is None else f"-concurrency{args.max_concurrency}"
    name = model.rstrip("/").rpartition("/")[2]
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{args.label or args.backend}-{args.request_rate}qps{at_once}-{name}-{now}.json"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return found


def _pair(flag: str, word: str, mark: str) -> tuple[str, str]:
    name, found, value = word.partition(mark)
    if not found or not name:
        raise ConfigError(f"{flag} has {word!r}; write NAME{mark}VALUE.")
    return name, value


def _number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{flag} has {text!r}, which is no number.") from None


def _nothing() -> None:
    """For requests that nobody counts."""
