"""Pictures that were made to hurt are refused with a sentence; odd ones come out as what one sees of them."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, Literal

import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from workers.errors import GiveUp
from workers.references.decoding import FORMATS, Picture, PixelLimits, decode, fit, normalise
from workers.spool import sha256

LIMITS = PixelLimits(pixels=1_000_000, side=4000)
NO_PICTURE = "the reference is not a picture that can be read (PNG, JPEG, WEBP, GIF, BMP)"
BROKEN = "the reference is broken: it ends too early or contradicts itself"
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

Pixel = tuple[int, ...]


def flag(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    ImageDraw.Draw(image).rectangle((size[0] // 2, 0, size[0], size[1]), fill=BLUE)
    return image.convert(mode)


def file(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def refused(data: bytes, limits: PixelLimits = LIMITS) -> str:
    with pytest.raises(GiveUp) as caught:
        decode(data, limits=limits)
    assert caught.value.error_type == "ReferenceInvalid"
    return caught.value.message


def near(image: Image.Image, at: tuple[int, int], colour: Pixel, tolerance: int = 12) -> bool:
    found = image.getpixel(at)
    assert isinstance(found, tuple)
    return all(abs(one - other) <= tolerance for one, other in zip(found, colour, strict=True))


def is_flag(picture: Picture, left: Pixel = RED, right: Pixel = BLUE) -> bool:
    width, height = picture.image.size
    assert (picture.image.mode, picture.width, picture.height) == ("RGB", width, height)
    return near(picture.image, (3, 3), left) and near(picture.image, (width - 4, height - 4), right)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def segment(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    plain = file(flag(), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * scans + plain[-2:]


class TestNoPicture:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0" * 1000,
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"GIF89a",
            b"BM",
            b"RIFF\x10\0\0\0WEBPVP8 ",
            b"<html><body>Please log in</body></html>",
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
            b"%PDF-1.7\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
            b"P6\n10 10\n255\n" + b"x" * 300,
            b"#define a_width 8\n#define a_height 8\nstatic char a_bits[] = {0};",
            b"PK\x03\x04",
            b"\0\0\0\x1cftypisom\0\0\x02\0",
        ],
    )
    def test_is_refused(self, data: bytes) -> None:
        assert refused(data) == NO_PICTURE

    @pytest.mark.parametrize("form", ["TIFF", "ICO", "PPM", "TGA", "PCX", "SGI", "JPEG2000", "PDF", "EPS", "ICNS"])
    def test_what_pillow_could_read_and_we_do_not(self, form: str) -> None:
        """Fewer readers, fewer holes. EPS would even start Ghostscript."""
        assert refused(file(flag(size=(64, 64)), form)) == NO_PICTURE

    def test_the_sentence_names_what_is_read(self) -> None:
        assert ", ".join(FORMATS) in NO_PICTURE


class TestBombs:
    @pytest.mark.parametrize(("width", "height"), [(1001, 1000), (4001, 1), (1, 4001), (5000, 5000), (12_000, 12_000)])
    def test_by_the_header_alone(self, width: int, height: int) -> None:
        """There are no pixels in these files: had one been looked for, the file would be called broken."""
        said = refused(png(width, height, chunk(b"IDAT", b"")))
        assert said.startswith(f"the reference has {width} x {height} pixels; at most 1000000 in all")

    @pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (0x7FFFFFFF, 0x7FFFFFFF), (1, 0x7FFFFFFF)])
    def test_beyond_what_pillow_opens(self, width: int, height: int) -> None:
        assert refused(png(width, height, chunk(b"IDAT", b""))) == "the reference has more pixels than are decoded"

    def test_other_formats(self) -> None:
        gif = b"GIF89a" + struct.pack("<HHBBB", 60_000, 1000, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
        bmp = bytearray(file(flag(), "BMP"))
        bmp[18:26] = struct.pack("<ii", 20_000, 2000)
        jpeg = bytearray(file(flag(), "JPEG"))
        frame = jpeg.index(b"\xff\xc0")
        jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 2000, 20_000)
        for data in (gif, bytes(bmp), bytes(jpeg)):
            assert " pixels; at most 1000000 in all" in refused(data)

    def test_a_frame_larger_than_its_gif(self) -> None:
        gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0" * 6
        gif += b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\2\2D\1\0;"
        assert "pixels" in refused(gif)

    def test_a_packed_profile_and_a_packed_comment(self) -> None:
        """A few kilobytes that would become gigabytes are not unpacked."""
        zeros = zlib.compress(b"\0" * 80_000_000)
        pixels = chunk(b"IDAT", zlib.compress(b"\0" + b"\0" * 3))
        for bomb in (chunk(b"zTXt", b"a\0\0" + zeros), chunk(b"iTXt", b"a\0\1\0\0\0" + zeros)):
            assert refused(png(1, 1, bomb, pixels)) in (NO_PICTURE, BROKEN)

    def test_more_data_than_pixels(self) -> None:
        """The stream would unpack to 80 MB; a picture of one pixel takes three bytes of it."""
        data = png(1, 1, chunk(b"IDAT", zlib.compress(b"\0" * 80_000_000)))
        assert decode(data, limits=LIMITS).image.size == (1, 1)

    def test_a_jpeg_of_many_scans(self) -> None:
        assert refused(progressive(2000)) == "the reference is a JPEG of more than 100 scans"

    def test_a_progressive_one_passes_with_markers_in_its_segments_and_behind_its_end(self) -> None:
        plain = file(flag(), "JPEG", progressive=True)
        data = plain[:2] + segment(0xEB, b"\xff\xda" * 500) + plain[2:] + b"\0\2" + b"\xff\xda\0\2" * 500
        assert is_flag(decode(data, limits=LIMITS))

    def test_exactly_as_many_as_allowed(self) -> None:
        assert decode(file(Image.new("1", (1000, 1000))), limits=LIMITS).width == 1000


class TestTruncated:
    @pytest.mark.parametrize(
        ("form", "options"),
        [
            ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("WEBP", {"lossless": True}),
            ("GIF", {}), ("BMP", {}),
        ],
    )  # fmt: skip
    def test_at_every_place(self, form: str, options: dict[str, Any]) -> None:
        """Refused, or no pixel is missing: what a file says behind its pixels is not needed."""
        whole = file(flag(), form, **options)
        wanted = decode(whole, limits=LIMITS).image.tobytes()
        refusals = []
        for length in range(0, len(whole), max(1, len(whole) // 150)):
            try:
                assert decode(whole[:length], limits=LIMITS).image.tobytes() == wanted, length
            except GiveUp as problem:
                refusals.append(problem.message)
        assert len(refusals) > 20
        assert set(refusals) <= {NO_PICTURE, BROKEN}

    @pytest.mark.parametrize("form", FORMATS)
    def test_flipped_bytes_raise_nothing_else(self, form: str) -> None:
        whole = file(flag(size=(16, 8)), form)
        refusals = []
        for at in range(0, len(whole), max(1, len(whole) // 150)):
            hurt = bytearray(whole)
            hurt[at] ^= 0xFF
            try:
                decode(bytes(hurt), limits=LIMITS)
            except GiveUp as problem:
                refusals.append(problem.message)
        assert refusals
        assert all(message.startswith("the reference ") for message in refusals)


class TestPolyglots:
    def zipped(self) -> bytes:
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            archive.writestr("payload.txt", b"<script>hunter2</script>")
        return written.getvalue()

    @pytest.mark.parametrize("form", FORMATS)
    def test_only_the_picture_goes_on(self, form: str) -> None:
        data = file(flag(), form) + self.zipped()
        picture = decode(data, limits=LIMITS)
        assert is_flag(picture)
        assert not zipfile.is_zipfile(io.BytesIO(normalise(picture)))
        assert b"hunter2" not in normalise(picture)

    def test_comments_profiles_and_exif_stay_behind(self) -> None:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", "hunter2")
        exif = Image.Exif()
        exif[0x010E] = "hunter2"
        data = file(flag(), pnginfo=texts, exif=exif, icc_profile=b"hunter2", dpi=(300, 300))
        picture = decode(data, limits=LIMITS)
        kinds = []
        written = normalise(picture)
        at = 8
        while at < len(written):
            length = int.from_bytes(written[at : at + 4])
            kinds.append(written[at + 4 : at + 8])
            at += length + 12
        assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
        assert picture.image.info == {}

    def test_the_same_pixels_give_the_same_bytes(self) -> None:
        first, second = (decode(file(flag(), form), limits=LIMITS) for form in ("PNG", "BMP"))
        assert normalise(first) == normalise(second)
        assert first.digest != second.digest == sha256(file(flag(), "BMP"))
        again = decode(normalise(first), limits=LIMITS)
        assert again.image.tobytes() == first.image.tobytes()


def _deep() -> bytes:
    rows = b"".join(b"\0" + b"\xff\xff" * 20 + b"\x80\x00" * 20 for _ in range(20))
    return png(40, 20, chunk(b"IDAT", zlib.compress(rows)), depth=16, colour=0)


def _deep_colours() -> bytes:
    rows = b"".join(b"\0" + b"\xff\xff\0\0\0\0" * 20 + b"\0\0\0\0\xff\xff" * 20 for _ in range(20))
    return png(40, 20, chunk(b"IDAT", zlib.compress(rows)), depth=16)


def _half() -> Image.Image:
    image = flag("RGBA")
    image.paste((0, 0, 0, 0), (20, 0, 40, 20))
    return image


def _paletted_transparent() -> bytes:
    image = flag("P")
    blue = image.getpixel((39, 19))
    return file(image, transparency=blue)


def _grey_alpha() -> Image.Image:
    image = Image.new("LA", (40, 20), (0, 255))
    image.paste((0, 0), (20, 0, 40, 20))
    return image


def _several(form: str) -> bytes:
    other = Image.new("RGB", (40, 20), WHITE)
    return file(flag(), form, save_all=True, append_images=[other, flag()])


FIRST = ("only the first of several frames is used",)
CLEAR = ("transparency became white",)
GREY_RED, GREY_BLUE = (76,) * 3, (29,) * 3


class TestOddOnesPass:
    @pytest.mark.parametrize(
        ("made", "left", "right", "notes"),
        [
            (lambda: file(flag()), RED, BLUE, ()),
            (lambda: file(flag(), "JPEG", quality=95, subsampling=0), RED, BLUE, ()),
            (lambda: file(flag(), "JPEG", quality=95, subsampling=0, progressive=True), RED, BLUE, ()),
            (lambda: file(flag("CMYK"), "JPEG", quality=95), RED, BLUE, ("CMYK became RGB without a colour profile",)),
            (lambda: file(flag("L"), "JPEG"), GREY_RED, GREY_BLUE, ()),
            (lambda: file(flag("P")), RED, BLUE, ()),
            (lambda: file(flag("L")), GREY_RED, GREY_BLUE, ()),
            (lambda: file(flag("L").point(lambda value: 255 * (value > 50)).convert("1")), WHITE, (0, 0, 0), ()),
            (_deep, WHITE, (128,) * 3, ("16 bits a channel became 8",)),
            (_deep_colours, RED, BLUE, ()),
            (lambda: file(_half()), RED, WHITE, CLEAR),
            (lambda: file(_half(), "WEBP", lossless=True), RED, WHITE, CLEAR),
            (lambda: file(_half(), "GIF"), RED, WHITE, CLEAR),
            (_paletted_transparent, RED, WHITE, CLEAR),
            (lambda: file(flag(), transparency=BLUE), RED, WHITE, CLEAR),
            (lambda: file(_grey_alpha()), (0, 0, 0), WHITE, CLEAR),
            (lambda: file(flag(), "GIF"), RED, BLUE, ()),
            (lambda: file(flag(), "WEBP", lossless=True), RED, BLUE, ()),
            (lambda: file(flag(), "BMP"), RED, BLUE, ()),
            (lambda: file(flag("P"), "BMP"), RED, BLUE, ()),
            (lambda: _several("GIF"), RED, BLUE, FIRST),
            (lambda: _several("PNG"), RED, BLUE, FIRST),
            (lambda: _several("WEBP"), RED, BLUE, FIRST),
            (lambda: _several("MPO"), RED, BLUE, FIRST),
            (lambda: file(flag(), exif=b"Exif\0\0nonsense"), RED, BLUE, ("EXIF data that cannot be read was ignored",)),
        ],
        ids=[
            "png", "jpeg", "progressive", "cmyk", "grey jpeg", "palette", "grey", "one bit", "16 bits of grey",
            "16 bits of colour", "alpha", "webp alpha", "gif alpha", "palette alpha", "colour key", "grey alpha", "gif",
            "webp", "bmp", "bmp palette", "animated gif", "animated png", "animated webp", "mpo", "broken exif",
        ],
    )  # fmt: skip
    def test_as_one_sees_them(
        self, made: Callable[[], bytes], left: Pixel, right: Pixel, notes: tuple[str, ...]
    ) -> None:
        picture = decode(made(), limits=LIMITS)
        assert is_flag(picture, left, right)
        assert picture.notes == notes

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
    def test_upright(self, form: str, orientation: int) -> None:
        """A camera that is held so, writes so; the picture comes out as it was seen."""
        stored = {
            2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
            4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
            7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
        }  # fmt: skip
        image = flag()
        image.paste(WHITE, (0, 14, 6, 20))  # tells up from down
        for turn in stored.get(orientation, []):
            image = image.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = decode(file(image, form, exif=exif, quality=95), limits=LIMITS)
        assert is_flag(picture)
        assert picture.image.size == (40, 20)
        assert near(picture.image, (2, 17), WHITE, 40)

    def test_what_comes_behind_the_first_frame_may_be_broken(self) -> None:
        whole = _several("GIF")
        assert is_flag(decode(whole[: len(whole) - len(whole) // 3], limits=LIMITS))


class TestFit:
    @pytest.mark.parametrize("mode", ["letterbox", "crop"])
    @pytest.mark.parametrize("size", [(40, 20), (20, 40), (1, 4000), (4000, 1), (64, 64), (1, 1)])
    def test_the_size_is_exact(self, size: tuple[int, int], mode: Literal["letterbox", "crop"]) -> None:
        for wanted in ((64, 64), (83, 47), (8, 1024)):
            assert fit(Image.new("RGB", size), *wanted, mode).size == wanted

    def test_letterbox_keeps_all_and_adds_white(self) -> None:
        fitted = fit(flag(), 40, 40, "letterbox")
        assert [fitted.getpixel(at) for at in ((20, 5), (5, 20), (35, 20), (20, 35))] == [WHITE, RED, BLUE, WHITE]

    def test_crop_fills_and_cuts_both_sides(self) -> None:
        fitted = fit(flag(), 20, 20, "crop")
        assert [fitted.getpixel(at) for at in ((2, 2), (2, 17), (17, 2), (17, 17))] == [RED, RED, BLUE, BLUE]

    def test_what_fits_is_left_alone(self) -> None:
        for mode in ("letterbox", "crop"):
            assert fit(flag(), 40, 20, mode).tobytes() == flag().tobytes()
