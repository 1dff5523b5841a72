"""Small annotated sets, and writers of other tools' formats that share no code with the readers.

Each writer follows the layout that its tool documents, and puts the images where the tool does.
"""

import base64
import io
import json
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import rasterio
import yaml
from PIL import Image
from pycocotools import mask as coco_masks
from rasterio.transform import from_origin

from benchmark.data.fake.drawing import picture, save

NAMES = ("car", "road", "tree")


@dataclass
class Region:
    """One annotated object: its pixels, and its outline where it has one."""

    name: str
    inside: np.ndarray
    outline: list[tuple[float, float]] | None = None
    crowd: bool = False


@dataclass
class Scene:
    """One image with its objects, later ones in front; `pixels` if it is a real one."""

    name: str
    size: tuple[int, int]
    regions: list[Region] = field(default_factory=list)
    names: tuple[str, ...] = NAMES
    pixels: np.ndarray | None = None

    @property
    def label(self) -> np.ndarray:
        """(H, W) uint8: 0 background, then the names in order; 255 for crowds, which lie below."""
        label = np.zeros(self.size, np.uint8)
        for region in sorted(self.regions, key=lambda region: not region.crowd):
            label[region.inside] = 255 if region.crowd else 1 + self.names.index(region.name)
        return label

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8, of other colours in each scene."""
        if self.pixels is not None:
            return self.pixels
        return picture(self.label, sum(map(ord, self.name)))


def rectangle(
    size: tuple[int, int], name: str, left: int, top: int, right: int, bottom: int
) -> Region:
    inside = np.zeros(size, bool)
    inside[top:bottom, left:right] = True
    return Region(name, inside, [(left, top), (right, top), (right, bottom), (left, bottom)])


def ring(size: tuple[int, int], name: str, x: float, y: float, radius: float) -> Region:
    """A disc with a hole in it."""
    rows, columns = np.indices(size) + 0.5
    distance = np.hypot(rows - y, columns - x)
    return Region(name, (distance < radius) & (distance > radius / 2))


def rectangles(count: int = 8) -> list[Scene]:
    """Scenes of overlapping rectangles; the first has none, the second one that fills it."""
    scenes = []
    for k in range(count):
        size = (40 + k, 56 - k)
        scene = Scene(f"street_{k:02}", size)
        if k == 1:
            scene.regions = [rectangle(size, "road", 0, 0, size[1], size[0])]
        elif k:
            scene.regions = [
                rectangle(size, "road", 0, 20, size[1], size[0]),
                rectangle(size, "car", 5 + k, 15, 20 + k, 30),
                rectangle(size, "tree", 12 + k, 5, 18 + k, 25),
                rectangle(size, "car", 30, 10, 31, 11 + k),
            ]
        scenes.append(scene)
    return scenes


def shapes(count: int = 8, crowds: bool = False) -> list[Scene]:
    """Scenes of rectangles, objects with holes, of single pixels and in several parts."""
    random = np.random.default_rng(0)
    scenes = rectangles(count)
    for k, scene in enumerate(scenes[2:], 2):
        scene.regions.insert(1, ring(scene.size, "tree", 25.5, 20.5, 8 + k))
        scene.regions.append(Region("car", random.random(scene.size) < 0.02))
        if crowds:
            crowd = rectangle(scene.size, "car", 2, 2, 45, 25)
            crowd.crowd = True
            scene.regions.append(crowd)
    return scenes


def images(folder: Path, scenes: list[Scene], form: str = "png") -> None:
    for scene in scenes:
        save(folder / f"{scene.name}.{form}", scene.image)


def flat(outline: list[tuple[float, float]]) -> list[float]:
    return [number for point in outline for number in point]


def _written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(folder: Path, scenes: list[Scene], kind: str) -> Path:
    """COCO JSON, `kind` polygon, packed (RLE as a string) or runs (RLE as a list).

    Category ids have gaps, and image ids are not in order.
    """
    ids = {name: 3 + 7 * k for k, name in enumerate(scenes[0].names)}
    annotations = []
    for k, scene in enumerate(scenes):
        for region in scene.regions:
            if kind == "polygon":
                assert region.outline
                segmentation: Any = [flat(region.outline)]
            elif kind == "packed":
                segmentation = coco_masks.encode(np.asfortranarray(region.inside, np.uint8))
                segmentation["counts"] = segmentation["counts"].decode()
            else:
                values = region.inside.ravel(order="F")
                counts = [0] if values[0] else []
                counts += [len(list(run)) for _, run in groupby(values)]
                segmentation = {"size": list(scene.size), "counts": counts}
            annotations.append({
                "id": len(annotations) + 1, "image_id": 100 - k, "category_id": ids[region.name],
                "iscrowd": int(region.crowd), "segmentation": segmentation, "bbox": [0, 0, 1, 1],
            })  # fmt: skip
    images(folder / "images", scenes)
    return _written(folder / "annotations.json", {
        "info": {},
        "images": [
            {"id": 100 - k, "file_name": f"{scene.name}.png", "height": scene.size[0],
             "width": scene.size[1]}
            for k, scene in enumerate(scenes)
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for name, id in reversed(ids.items())],
    })  # fmt: skip


def labelme(folder: Path, scenes: list[Scene], kind: str) -> Path:
    """Labelme JSON beside each image, `kind` polygon, rectangle or mask."""
    for scene in scenes:
        found = []
        for region in scene.regions:
            shape: dict[str, Any] = {"label": region.name, "group_id": None, "flags": {}}
            if kind == "mask":
                rows, columns = np.nonzero(region.inside)
                top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
                file = io.BytesIO()
                Image.fromarray(region.inside[top : bottom + 1, left : right + 1]).save(file, "PNG")
                points = [[int(left), int(top)], [int(right), int(bottom)]]
                shape |= {"mask": base64.b64encode(file.getvalue()).decode()}
            else:
                assert region.outline
                points = (
                    region.outline if kind == "polygon" else [region.outline[2], region.outline[0]]
                )
            found.append(shape | {"shape_type": kind, "points": points})
        _written(folder / "json" / f"{scene.name}.json", {
            "version": "5.5.0", "flags": {}, "shapes": found, "imageData": None,
            "imagePath": f"..\\photos\\{scene.name}.png",
            "imageHeight": scene.size[0], "imageWidth": scene.size[1],
        })  # fmt: skip
    images(folder / "photos", scenes)
    return folder


def cvat(folder: Path, scenes: list[Scene], kind: str) -> Path:
    """CVAT for images 1.1, `kind` polygon, box or mask; the file holds shapes in front first."""
    labels = "".join(f"<label><name>{name}</name><type>any</type></label>" for name in NAMES)
    lines = [
        f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    ]
    for k, scene in enumerate(scenes):
        height, width = scene.size
        lines.append(f'<image id="{k}" name="{scene.name}.png" width="{width}" height="{height}">')
        for depth, region in reversed(list(enumerate(scene.regions))):
            common = f'label={quoteattr(region.name)} occluded="0" z_order="{depth}"'
            if kind == "mask":
                rows, columns = np.nonzero(region.inside)
                top, left = rows.min(), columns.min()
                cut = region.inside[top : rows.max() + 1, left : columns.max() + 1]
                values = cut.ravel()
                counts = ([0] if values[0] else []) + [len(list(g)) for _, g in groupby(values)]
                lines.append(
                    f'<mask {common} rle="{", ".join(map(str, counts))}" left="{left}" top="{top}" '
                    f'width="{cut.shape[1]}" height="{cut.shape[0]}"></mask>'
                )
            elif kind == "box":
                assert region.outline
                (left, top), _, (right, bottom), _ = region.outline
                lines.append(
                    f'<box {common} xtl="{left:.2f}" ytl="{top:.2f}" xbr="{right:.2f}" '
                    f'ybr="{bottom:.2f}"></box>'
                )
            else:
                assert region.outline
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in region.outline)
                lines.append(f'<polygon {common} points="{points}"></polygon>')
        lines.append("</image>")
    images(folder / "images", scenes)
    path = folder / "annotations.xml"
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join(lines) + "</annotations>"
    )
    return path


def yolo(folder: Path, scenes: list[Scene], splits: dict[str, int]) -> Path:
    """YOLO polygons with a data.yaml, and so many scenes in each split."""
    rest = list(scenes)
    for split, count in splits.items():
        some, rest = rest[:count], rest[count:]
        images(folder / split / "images", some)
        for scene in some:
            lines = []
            for region in scene.regions:
                assert region.outline
                shares = [(x / scene.size[1], y / scene.size[0]) for x, y in region.outline]
                numbers = " ".join(f"{number:.6f}" for number in flat(shares))
                lines.append(f"{NAMES.index(region.name)} {numbers}")
            if lines:  # an image without objects has no file
                path = folder / split / "labels" / f"{scene.name}.txt"
                path.parent.mkdir(exist_ok=True)
                path.write_text("\n".join(lines) + "\n")
    path = folder / "data.yaml"
    # As Roboflow writes it: relative to a folder that is not there.
    places = {split: f"../{split}/images" for split in splits}
    path.write_text(yaml.safe_dump(places | {"nc": 3, "names": list(NAMES)}))
    return path


def brush(inside: np.ndarray) -> list[int]:
    """Bytes of a brush mask: runs of RGBA values, with counts of 3 or 16 bits, single ones raw."""
    flat = np.repeat(inside.ravel().astype(np.uint8) * 255, 4)
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    bits = f"{len(flat):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    for start, end in pairwise(edges):
        value, rest = int(flat[start]), end - start
        while rest:
            count = min(rest, 2**16)
            if count == 4:
                bits += f"000{3:03b}" + f"{value:08b}" * 4
            elif count <= 8:
                bits += f"100{count - 1:03b}{value:08b}"
            else:
                bits += f"111{count - 1:016b}{value:08b}"
            rest -= count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def label_studio(folder: Path, scenes: list[Scene], kind: str) -> Path:
    """Label Studio's JSON, `kind` brushlabels, polygonlabels or rectanglelabels."""
    tasks = []
    for k, scene in enumerate(scenes):
        height, width = scene.size
        results = []
        for region in scene.regions:
            value: dict[str, Any] = {kind: [region.name]}
            if kind == "brushlabels":
                value |= {"format": "rle", "rle": brush(region.inside)}
            else:
                assert region.outline
                shares = [[100 * x / width, 100 * y / height] for x, y in region.outline]
                (left, top), (right, bottom) = shares[0], shares[2]
                if kind == "polygonlabels":
                    value |= {"points": shares, "closed": True}
                else:
                    value |= {"x": left, "y": top, "width": right - left, "height": bottom - top}
                    value |= {"rotation": 0}
            results.append({
                "id": f"r{len(results)}", "type": kind, "from_name": "label", "to_name": "image",
                "original_width": width, "original_height": height, "image_rotation": 0,
                "value": value,
            })  # fmt: skip
        address = f"/data/upload/4/{k:08x}-{scene.name}.png"
        discarded = {"id": 2, "was_cancelled": True, "result": results[:1]}
        tasks.append({
            "id": k + 1, "data": {"image": address}, "predictions": [],
            "annotations": [{"id": 1, "was_cancelled": False, "result": results}, discarded],
        })  # fmt: skip
    images(folder / "upload", scenes)
    return _written(folder / "project-1.json", tasks)


def voc(folder: Path, scenes: list[Scene], kind: str, splits: dict[str, int]) -> Path:
    """VOC's layout, `kind` palette (with class_names.txt), or colours or mixed (labelmap.txt).

    `mixed` has palettes whose indices are not those of the label map.
    """
    images(folder / "JPEGImages", scenes)
    names = ("_background_", *scenes[0].names)
    colours = [(40 * k % 256, k, 255 - k) for k in range(len(names))]
    if kind == "palette":
        (folder / "class_names.txt").write_text("\n".join(("__ignore__", *names)))
    else:
        lines = [f"{n}:{r},{g},{b}::" for n, (r, g, b) in zip(names, colours, strict=True)]
        (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines))
    table = np.full((256, 3), (224, 224, 192), np.uint8)
    table[: len(colours)] = colours
    (folder / "SegmentationClass").mkdir()
    for scene in scenes:
        path = folder / "SegmentationClass" / f"{scene.name}.png"
        if kind == "colours":
            save(path, table[scene.label])
            continue
        turn = np.arange(256) if kind == "palette" else np.arange(256)[::-1]
        mask = Image.fromarray(turn[scene.label].astype(np.uint8))
        mask.putpalette(table[turn].ravel().tolist())
        mask.save(path)
    rest = [scene.name for scene in scenes]
    for split, count in splits.items():
        path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rest[:count]))
        rest = rest[count:]
    return folder


def raster(
    path: Path, bands: np.ndarray, nodata: float | None = None, left: float = 500_000
) -> None:
    """A GeoTIFF of bands (B, H, W), one metre a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, crs="EPSG:32632", transform=from_origin(left, 5_000_000, 1, 1),
        nodata=nodata,
    ) as file:  # fmt: skip
        file.write(bands)


def geotiff(folder: Path, scenes: list[Scene], dtype: str, values: tuple[int, ...]) -> Path:
    """GeoTIFFs with masks of a type; `values` stand for background, the names and void."""
    table = np.full(256, values[-1], np.float64)
    table[: len(values) - 1] = values[:-1]
    for scene in scenes:
        raster(folder / "images" / f"{scene.name}.tif", np.moveaxis(scene.image, -1, 0))
        mask = table[scene.label].astype(dtype)[None]
        raster(folder / "labels" / f"{scene.name}.tif", mask, nodata=values[-1])
    return folder
