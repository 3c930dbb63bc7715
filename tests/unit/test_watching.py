"""Folders of files that are watched while the process runs."""

import asyncio
import resource
from contextlib import asynccontextmanager

import pytest

from servers.kernel.watching import watching
from tests.patience import PATIENCE


class Seen:
    """What the folders hold whenever a change is told."""

    def __init__(self, *folders):
        self.folders = folders
        self.told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.fails = False

    async def __call__(self):
        files = [each for folder in self.folders for each in folder.glob("*.yaml")]
        self.told.put_nowait({each.name: each.read_text() for each in files})
        if self.fails:
            raise RuntimeError("the reader broke")

    async def until(self, **wanted):
        async with asyncio.timeout(PATIENCE):
            while await self.told.get() != {f"{name}.yaml": text for name, text in wanted.items()}:
                pass


@asynccontextmanager
async def seeing(*folders):
    seen = Seen(*folders)
    async with watching(folders, (".yaml",), seen, tick=0.05):
        yield seen


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "agents").mkdir()
    return tmp_path / "agents"


async def test_files_that_are_added_changed_and_removed_are_told(folder):
    async with seeing(folder) as seen:
        (folder / "a.yaml").write_text("1")
        await seen.until(a="1")
        (folder / "a.yaml").write_text("2")
        await seen.until(a="2")
        (folder / "a.yaml").unlink()
        await seen.until()


async def test_what_is_there_when_the_watch_begins_is_told(folder):
    (folder / "a.yaml").write_text("1")
    async with seeing(folder) as seen:
        await seen.until(a="1")


async def test_of_several_folders_each_is_told(folder, tmp_path):
    other = tmp_path / "rag"
    other.mkdir()
    async with seeing(folder, other) as seen:
        await seen.until()
        (other / "b.yaml").write_text("1")
        await seen.until(b="1")


async def test_a_folder_that_comes_later_is_told(folder, tmp_path):
    other = tmp_path / "rag"
    async with seeing(folder, other) as seen:
        await seen.until()
        other.mkdir()
        (other / "b.yaml").write_text("1")
        await seen.until(b="1")
        (other / "b.yaml").write_text("2")
        await seen.until(b="2")


async def test_a_folder_in_the_place_of_another_is_told(folder):
    (folder / "a.yaml").write_text("1")
    async with seeing(folder) as seen:
        await seen.until(a="1")
        folder.rename(folder.with_name("old"))
        folder.mkdir()
        (folder / "a.yaml").write_text("2")
        await seen.until(a="2")


async def test_all_files_that_kubernetes_swaps_at_once_are_told(folder):
    """As it mounts a ConfigMap: files are links through `..data`, which is made to point
    elsewhere."""
    for version in ("1", "2"):
        (folder / f"..{version}").mkdir()
        (folder / f"..{version}" / "a.yaml").write_text(version)
    (folder / "..data").symlink_to("..1")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    async with seeing(folder) as seen:
        await seen.until(a="1")
        (folder / "..data_tmp").symlink_to("..2")
        (folder / "..data_tmp").rename(folder / "..data")
        await seen.until(a="2")


async def test_a_reader_that_breaks_hears_of_the_next_change(folder):
    async with seeing(folder) as seen:
        seen.fails = True
        await seen.until()
        seen.fails = False
        (folder / "a.yaml").write_text("1")
        await seen.until(a="1")


async def test_without_any_folder_it_waits_for_one(tmp_path):
    async with seeing(tmp_path / "nowhere") as seen:
        await seen.until()


async def test_a_file_elsewhere_that_a_link_leads_to_is_told(folder, tmp_path):
    (tmp_path / "elsewhere.yaml").write_text("1")
    (folder / "a.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    async with seeing(folder) as seen:
        await seen.until(a="1")
        (tmp_path / "elsewhere.yaml").write_text("two")
        await seen.until(a="two")


async def test_a_link_into_a_mounted_config_map_is_told(folder, tmp_path):
    """One file of a ConfigMap that is mounted elsewhere."""
    mounted = tmp_path / "mounted"
    for version in ("1", "2"):
        (mounted / f"..{version}").mkdir(parents=True)
        (mounted / f"..{version}" / "a.yaml").write_text(version)
    (mounted / "..data").symlink_to("..1")
    (mounted / "a.yaml").symlink_to("..data/a.yaml")
    (folder / "a.yaml").symlink_to(mounted / "a.yaml")
    async with seeing(folder) as seen:
        await seen.until(a="1")
        (mounted / "..data_tmp").symlink_to("..2")
        (mounted / "..data_tmp").rename(mounted / "..data")
        await seen.until(a="2")


async def test_a_folder_inside_a_mounted_config_map_is_told(tmp_path):
    """Where the ConfigMap has the path agents/a.yaml, the folder itself leads through `..data`."""
    for version in ("1", "2"):
        (tmp_path / f"..{version}" / "agents").mkdir(parents=True)
        (tmp_path / f"..{version}" / "agents" / "a.yaml").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "agents").symlink_to("..data/agents")
    async with seeing(tmp_path / "agents") as seen:
        await seen.until(a="1")
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await seen.until(a="2")


async def test_nothing_is_told_while_nothing_changes(folder):
    (folder / "a.yaml").write_text("1")
    (folder / "gone.yaml").symlink_to("nowhere")
    told = asyncio.Event()
    looked = 0

    async def changed():
        nonlocal looked
        looked += 1
        told.set()

    async with watching([folder], (".yaml",), changed, tick=0.01):
        await told.wait()
        await asyncio.sleep(0.1)  # ten ticks
    assert looked == 1


async def test_where_the_system_watches_no_more_it_says_so_and_looks_at_the_files(folder, capsys):
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with seeing(folder) as seen:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # nothing more can be opened
        try:
            async with asyncio.timeout(PATIENCE):
                while "files not watched" not in capsys.readouterr().out:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        # The system is asked again much later.
        (folder / "a.yaml").write_text("1")
        await seen.until(a="1")
