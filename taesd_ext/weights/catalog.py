"""The official weight files: one row per file and version, with checksums as far as any were published.

A row is used to recognise a file that lies on the disk (every version) and to download one (rows with sources). A git
blob SHA-1 is sha1("blob <size>\\0" + bytes), as git names a file: it identifies the ``.pth`` files of the official
repository, whose other checksums nobody published. A checksum that nobody published stays empty, and then the file is
called "unverified".

Sources: the histories of madebyollin/taesd and madebyollin/taehv (git ls-tree), the file pages of huggingface.co.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BOTH = ("encoder", "decoder")

TINY = "tiny"
AUTOENCODER_KL = "autoencoder_kl"
AUTOENCODER_DC = "autoencoder_dc"

HUGGING_FACE = "https://huggingface.co/"


@dataclass(frozen=True)
class OfficialFile:
    """An official file of one version. ``size`` is in bytes; None where it was not published."""

    family: str
    parts: tuple[str, ...]
    kind: str
    """Module of models/ with the network: "tiny", "autoencoder_kl" or "autoencoder_dc"."""
    version: str
    name: str
    """Under this name the file is put on the disk."""
    licence: str
    size: int | None = None
    sha256: str = ""
    git_sha1: str = ""
    sources: tuple[str, ...] = ()
    """The same bytes at several addresses, best first; empty where this version is only recognised."""

    @property
    def has_checksum(self) -> bool:
        return bool(self.sha256 or self.git_sha1)

    def __str__(self) -> str:
        return f"{self.family} {' + '.join(self.parts)} {self.version}"


# The newest commit that changed a weight file; its tree holds the current version of every family.
TAESD_COMMIT = "5cccb12dc72074a4be35680c3b108548a7c69978"
_TAESD_PLACES = (
    f"https://raw.githubusercontent.com/madebyollin/taesd/{TAESD_COMMIT}/",
    f"https://cdn.jsdelivr.net/gh/madebyollin/taesd@{TAESD_COMMIT}/",
)

# (family, version, encoder's git blob SHA-1, decoder's), the newest version first; "" where the next one has the same.
_PTH = (
    ("taesd", "1.3", "65f85afc58480128926e52086fbf0fdc61c2c9b5", "5915a429fc08eba4adf62bf74f96705b8b0d5c1f"),
    ("taesd", "1.2", "", "a58532d3216a5d88b969f18e570cae74139fcdba"),
    ("taesd", "1.1", "67f645bc18f072c00bbe549701e76edaae626a8d", "659267da74b4c8d3bf230fd33147bcaebad64b40"),
    ("taesd", "1.0", "96eecc825f3b2608d73bd90bc7f99ca21c1c778b", "a5ceafddeaafc747c130f26da94b9c98ab0d74e6"),
    ("taesdxl", "1.3", "56dfb7ed13ac774bc28dcd981f072f26eb7c5e99", "477bc7e9604f418029508e72ac8719bb9d048291"),
    ("taesdxl", "1.2", "", "0cff0d45939e968d59a5fcf3f1903007fe8585e3"),
    ("taesdxl", "1.1", "7dfaf3c79a02f412b8c88ddb3cd86ce18d02838f", "d29b1dd380d10065efeb274707948b71887bff74"),
    ("taesdxl", "1.0", "fb2f91a3849c8e25da9c1502264d0695215de959", "f2b34452ac30220a92a971a9b54b1813613933af"),
    ("taesd3", "1.0", "9678667c0e3e4b648a36daaa8094b1732ae4fb67", "7943be72a9151d0b330c5d8a4fbb885d889b60a1"),
    ("taef1", "1.1", "d8ee13fa3a1ff9a92643669d718e4b0827daafa5", "b772c9c4e6d3b79d06b277be59296389591783d3"),
    ("taef1", "1.0", "33d29b315d606b0c7efad49b27fef69887a60fce", "0052642b054c2cb6e1b40e4cf43777774a98cdf9"),
    ("taef2", "1.0", "8d738aba02f7ba9d156712489322dc5c43d5db1c", "f4da1ec48cb805b5ee8deb22cfad03f48fe52f64"),
    ("taesana", "1.0", "7e6354ea9e818c2fe56d3e80070a9e5e8a37be2f", "aa645f9d0a0a1c6b5ed1fc5b446e764af4843a9f"),
)

# Only of these `git ls-tree -l` gives a size here.
_PTH_SIZES = {
    "8d738aba02f7ba9d156712489322dc5c43d5db1c": 2704692,
    "f4da1ec48cb805b5ee8deb22cfad03f48fe52f64": 2704756,
    "7e6354ea9e818c2fe56d3e80070a9e5e8a37be2f": 2537004,
}

# madebyollin/taehv: (family, version, file, git blob SHA-1), each file's newest version first.
TAEHV_COMMIT = "1f14a568f24bf8811e0a0ac601613e04fc1581e8"
_TAEHV_PLACES = (
    f"https://raw.githubusercontent.com/madebyollin/taehv/{TAEHV_COMMIT}/",
    f"https://cdn.jsdelivr.net/gh/madebyollin/taehv@{TAEHV_COMMIT}/",
)
_TAEHV = (
    ("taew2_1", "1.1", "taew2_1.pth", "d6ffa27358914606153bbb790bd1da1c5cf822fd"),
    ("taew2_1", "1.01", "taew2_1.pth", "4ffc6a6ebab83b6de42678327b73cbe9c1cfd86c"),
    ("taew2_1", "1.0", "taew2_1.pth", "4858ee7393b51943dd920ac98c8130ccd1fd2ede"),
    ("taew2_1", "1.1", "safetensors/taew2_1.safetensors", "ec1a2be453a250aa406e912bb630c34463ba0b2f"),
    ("taew2_2", "1.1", "taew2_2.pth", "4b51ee2578346051cb091d6280213927b9403d61"),
    ("taew2_2", "1.0", "taew2_2.pth", "ebd0cec9c87e279e264d9c7128d56ff1933e86ca"),
    ("taew2_2", "1.1", "safetensors/taew2_2.safetensors", "9d0ef19504c0b918eb6a8efea1ed8596cf666400"),
    ("taew2_2", "1.0", "safetensors/taew2_2.safetensors", "f97b1c336f9a7393743cacc7e3c0c75c779d66fa"),
    ("taew2_2", "super 1.0", "taew2_2_super.pth", "88641133a999bd6a9f4aa17a41d2bc9b6241d077"),
    ("taew2_2", "super 1.0", "safetensors/taew2_2_super.safetensors", "f13f912d19f81eb742ba784a04d1cc228e1ce287"),
    ("taehv", "1.0", "taehv.pth", "e1409542548a72fe9259cc6dc92f0504555616c4"),
    ("taehv", "1.0", "safetensors/taehv.safetensors", "373253e5f877b3f6474a7ec874e5559f40381246"),
    ("taehv1_5", "1.1", "taehv1_5.pth", "73960d2af787dd8e05c9e1df93da27dc0c32deb3"),
    ("taehv1_5", "1.0", "taehv1_5.pth", "fdfe4cc901a6d899e55079844657b1403ede4990"),
    ("taehv1_5", "1.1", "safetensors/taehv1_5.safetensors", "ede3340b89ae7c58c3e203d1872b8c595c604169"),
    ("taehv1_5", "1.0", "safetensors/taehv1_5.safetensors", "f06fe05adb29ab68b8b01f22b77244baa8357b30"),
    ("taehv1_5", "super 1.0", "taehv1_5_super.pth", "b69a23b4db996fe47ca75371a0f840b5def1ce83"),
    ("taehv1_5", "super 1.0", "safetensors/taehv1_5_super.safetensors", "28a4a5a7aca3f3e0416082d1c400d206a0478377"),
    ("taeltx_2", "1.0", "taeltx_2.pth", "415c1d34395097beed07efe5b3b9432771b02d70"),
    ("taeltx_2", "1.0", "safetensors/taeltx_2.safetensors", "a3b56beaa4c3d5478cdcb78d984e65b2ad44bffa"),
    ("taeltx2_3", "1.0", "taeltx2_3.pth", "d1b7ab9b7e106aed3b1ca907dc3ec02ef8e61005"),
    ("taeltx2_3", "1.0", "safetensors/taeltx2_3.safetensors", "9553c906cd3d2a1deb85574d5236d256d795aa50"),
    ("taeh3", "1.0", "taeh3.pth", "8c459d15868be182ca52f95c82410767e06ef510"),
    ("taeh3", "1.0", "safetensors/taeh3.safetensors", "9eff5f6da1f0baa60ede7f097507119b1488219f"),
    ("taecvx", "1.1", "taecvx.pth", "faf18249d011f1188d28ac3dbcca7d91316baef2"),
    ("taecvx", "1.0", "taecvx.pth", "5c5cc87aefbc6a3140ecfb69cd108104ab9e800d"),
    ("taecvx", "1.1", "safetensors/taecvx.safetensors", "64e2fd755c9356db4c5c1e24d4a67135640a1085"),
    ("taeos1_3", "1.0", "taeos1_3.pth", "932cae63cf7c1f0cbfb37a35cce233e154dd044b"),
    ("taeos1_3", "1.0", "safetensors/taeos1_3.safetensors", "599c53e7f43c8e439cca31c68eed1c68855d12a4"),
)

# Tiny autoencoders of single files elsewhere: (family, version, licence, address, git blob SHA-1 or SHA-256).
_WIDE_COMMIT = "32ac0146b11007cda5a57b60a3b35653361fb8a4"  # branch 2026_03_11_taeltx23_wide
_WIDE_PLACE = f"https://raw.githubusercontent.com/madebyollin/taehv/{_WIDE_COMMIT}/"
_LIGHT_PLACE = "https://huggingface.co/lightx2v/Autoencoders/resolve/main/"
_TAEM1_PLACE = "https://raw.githubusercontent.com/madebyollin/taem1/863c0ebad757deb4ce918d29a43823231b64c948/"
_ELSEWHERE = (
    ("taem1", "1.0", "MIT", f"{_TAEM1_PLACE}taem1.pth", "75b015e01d34e671d9e627a246f5a462d194fdca"),
    ("taeltx2_3", "wide 1.0", "MIT", f"{_WIDE_PLACE}taeltx2_3_wide.pth", "1da8954033693369aa34de1840dc0fad00fe7d46"),
    ("taeltx2_3", "wide 1.0", "MIT", f"{_WIDE_PLACE}safetensors/taeltx2_3_wide.safetensors",
     "c48ef97dadf1cb9fa81eb836d21426a6e76c57d9"),
    ("taew2_1", "light 1.0", "Apache-2.0", f"{_LIGHT_PLACE}lighttaew2_1.safetensors",
     "8666e769f449f2d955651564bcadb0c5e12461b50480e67b7241f32c15f11a19"),
    ("taew2_1", "light 1.0", "Apache-2.0", f"{_LIGHT_PLACE}lighttaew2_1.pth",
     "7c55c7d6b8eb3d24c7daca1295dea803fb847411e2c67bceecbb286f4dfdbef5"),
    ("taew2_2", "light 1.0", "Apache-2.0", f"{_LIGHT_PLACE}lighttaew2_2.pth",
     "e62630fe8cf2a8a3ba1b23e0361e87d8128eed79fbf46e6c4287e33b7be2bd82"),
    ("taehv1_5", "light 1.0", "Apache-2.0", f"{_LIGHT_PLACE}lighttaehy1_5.pth",
     "0003a37484acfa994ebe921834db371e6762422fe3375e6ebf6179cc2e02de9c"),
)  # fmt: skip

# Newer than the commit of madebyollin/taesd above; its encoder's checksum was not published.
_QWEN_IMAGE_2_1 = OfficialFile(
    "taeqi2_1", ("decoder",), TINY, "1.0", "taeqi2_1_decoder.pth", "MIT", 15314938,
    "53c2212f4ea6c8ad06a30d4969d891f80339ff87bb3f77fe793848613d3a9042",
    sources=("https://raw.githubusercontent.com/madebyollin/taesd/main/taeqi2_1_decoder.pth",),
)  # fmt: skip

# comfyui_checkpoints/ at commit 8b03c76: (family, version of the weights, git blob SHA-1).
_COMBINED = (
    ("taesd", "1.2", "616083137b64dfe0827479a253dda61f896d6b55"),
    ("taesdxl", "1.2", "d5686c7bfb454db3a552958eab41406a4230d7e8"),
    ("taesd3", "1.0", "f6444bc989195c535d1e0bb76ddeebc223164a32"),
)

# Files of huggingface.co/madebyollin/<family>: (family, parts, version, file, size, sha256). The newest whole file of
# a family (both parts) is offered for download when the .pth files cannot be had.
_WHOLE, _BIN = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
_ENCODER, _DECODER = BOTH[:1], BOTH[1:]
_HUGGING_FACE = (
    ("taesd", BOTH, "1.3", _WHOLE, 9793292, "db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549"),
    ("taesd", BOTH, "1.2", _WHOLE, 9793292, "d7956d561b1efbd861ad9b03fd8f01510f9e87eddc07bdfd20837009433f6ee5"),
    ("taesd", BOTH, "1.1", _WHOLE, 9793292, "2183b8f7c963176bcb3ee6ecf54fc7d5bca22b9466465afdbb6b12b9a0785d2c"),
    ("taesd", BOTH, "1.3", _BIN, None, "5fd7edbf16d049365dda1dfd6df71526dc1b24ce78537dcad733f7b73921d267"),
    ("taesd", BOTH, "1.2", _BIN, 9832437, "4dbe7a5f07de1045ccab691d09b08ee06a6a42c2e91f09a949ea339ac3b8d601"),
    ("taesd", BOTH, "1.1", _BIN, 9832437, "62bda7018337cc26fbbe7d5ebb29c9783c82e7cb72ab725722b7587a1cf699d6"),
    ("taesd", _DECODER, "1.2", "taesd_decoder.safetensors", 4895612,
     "7442e91c60df146ab22c9deb6386f7f540ef2a70dd676e3bfa88c3b4ae694357"),
    ("taesd", _DECODER, "1.1", "taesd_decoder.safetensors", 4895612,
     "439a6d6ce5b2d358019c25fef66fa3892df7c3c67131a8ef4e7b4b5c82cc0d16"),
    ("taesd", _ENCODER, "1.2", "taesd_encoder.safetensors", None,
     "160d90c61c3a5ce50fe2cbe6404b3429f5763772d61b38523cc37e1525b4e19f"),
    ("taesd", _ENCODER, "1.1", "taesd_encoder.safetensors", 4895600,
     "db7e613f897e3e1efdfb8ecb9cccaff7292c79b2bdbef4eea151d163bca8ae76"),
    ("taesd", _ENCODER, "1.0", "taesd_encoder.safetensors", None,
     "437acb532811cccead9bf045b1ff246dc9a55ef15e4159ea660622a32cf40870"),
    ("taesdxl", BOTH, "1.3", _WHOLE, 9793292, "ff4824aca94dd6111e0340fa749347fb74101060d9712cb5ef1ca8f1cf17502f"),
    ("taesdxl", BOTH, "1.2", _WHOLE, 9793292, "0070e0bf1b85d84c836ebb0dc0d8a69200de91aa1a2a726efdb5153e810a27e6"),
    ("taesdxl", BOTH, "1.1", _WHOLE, 9793292, "aa0e5a3d8214d16fb840d01583a4afe80bc60080fa4d131c91b139323214231c"),
    ("taesdxl", BOTH, "1.0", _WHOLE, 9793292, "55ef8e24c0ef92d7f1d81b2cf66283d72396c6c05b6f073bec845147cd1247f3"),
    ("taesdxl", _DECODER, "1.2", "taesdxl_decoder.safetensors", 4895612,
     "f6013131e7eb412ef20113f1acc2ea7d3e47e53196ca0530fa65d9b61d814b61"),
    ("taesdxl", _DECODER, "1.1", "taesdxl_decoder.safetensors", 4895612,
     "7f44a1aca487b462de37c3ccc5964020a98a582b15b679f2144e4ae3c6345904"),
    ("taesdxl", _DECODER, "1.0", "taesdxl_decoder.safetensors", 4895612,
     "0932f0601474b5c4badedcbd06027c9744e5b5b7e4b3cc968eafaeb029ae9806"),
    ("taesdxl", _ENCODER, "1.2", "taesdxl_encoder.safetensors", None,
     "9f37c0b28f72ec4ca835dc7dbf05255bdf323cde8cf12a304674f106466c98ef"),
    ("taesdxl", _ENCODER, "1.1", "taesdxl_encoder.safetensors", 4895600,
     "acbe3fbeb35834f89fea015f9d5f91afc9f2b7ceb8dd784e59c5069896477a48"),
    ("taesdxl", _ENCODER, "1.0", "taesdxl_encoder.safetensors", 4895606,
     "070a29bf19e745a5751650fe79ee08ab1057b229cc4e07f1d1068a94d57e686f"),
    ("taesd3", BOTH, "1.0", _WHOLE, 9848636, "6f79c1397cb9ce1dac363722dbe70147aee0ccca75e28338f8482fe515891399"),
    ("taef1", BOTH, "1.1", _WHOLE, 9848636, "47a6c2bff850da04b267cab70fe3553fef57255eb9a8e76852baa0a87850e54d"),
    ("taef1", BOTH, "1.0", _WHOLE, None, "927f7de7f11bbd3b2d5ce402e608d97a7649e0921a9601995b044e8efc81e449"),
    ("taef2", BOTH, "1.0", "taef2.safetensors", None,
     "701d31c0ecbef3b609fe236e2e3a65ffb17f3a94237acdd771e8ea3194df557a"),
)  # fmt: skip

# (family, version, name on the disk, licence, size, sha256, repository/path of huggingface.co or "" if only known)
_KL = (
    ("sd-vae-ft-mse", "840000 EMA", "vae-ft-mse-840000-ema-pruned.safetensors", "MIT", 334641190,
     "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75", "stabilityai/sd-vae-ft-mse-original"),
    ("sd-vae-ft-mse", "840000 EMA", "vae-ft-mse-840000-ema-pruned.ckpt", "MIT", None,
     "c6a580b13a5bc05a5e16e4dbb80608ff2ec251a162311590c1f34c013d7f3dab", ""),
    ("sd-vae-ft-mse", "840000 EMA, diffusers", _WHOLE, "MIT", None,
     "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815", ""),
    ("sd-vae-ft-ema", "560000 EMA", "vae-ft-ema-560000-ema-pruned.safetensors", "MIT", None,
     "95f26a5ab04779d5467d1fcecaf93160ffa523afe399b835b3e1bb77ff2d937a", "stabilityai/sd-vae-ft-ema-original"),
    ("sd-vae-ft-ema", "560000 EMA", "vae-ft-ema-560000-ema-pruned.ckpt", "MIT", None,
     "0b204ad0cae549e0a7e298d803d57e36363760dec71c63109c1da3e1147ec520", ""),
    ("sd-vae-ft-ema", "560000 EMA, diffusers", _WHOLE, "MIT", None,
     "32db726da04f06c1b6b14c0043ce115cc87a501482945c5add89a40d838fcb46", ""),
    ("sd15-vae", "SD 1.5, diffusers", _WHOLE, "CreativeML OpenRAIL-M", None,
     "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c", ""),
    ("sd15-vae", "SD 1.5, diffusers fp16", "diffusion_pytorch_model.fp16.safetensors", "CreativeML OpenRAIL-M", None,
     "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c", ""),
    ("sdxl-vae", "1.0", "sdxl_vae.safetensors", "MIT", 334641164,
     "63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e", "stabilityai/sdxl-vae"),
    ("sdxl-vae-fp16-fix", "1.0", "sdxl-vae-fp16-fix.safetensors", "MIT", None,
     "1b909373b28f2137098b0fd9dbc6f97f8410854f31f84ddc9fa04b077b0ace2c",
     "madebyollin/sdxl-vae-fp16-fix/diffusion_pytorch_model.safetensors"),
    ("flux-vae", "1.0", "ae.safetensors", "Apache-2.0", 335304388,
     "afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38", "black-forest-labs/FLUX.1-schnell"),
)  # fmt: skip

# The -diffusers files of huggingface.co/mit-han-lab: (model, size, sha256). "in" and "mix" differ in nothing but
# their values, so only the checksum tells which scaling factor belongs to a file.
_DC = (
    ("dc-ae-f32c32-sana-1.0", 1249044836, "15a4b09e56d95b768a0ec9da50b702e21d920333fc9b3480d66bb5c7fad9d87f"),
    ("dc-ae-f32c32-in-1.0", None, "02e04dc41c6586462def4a57f3a3639f7c647005daa4bf6d0e0c2ef47d7592bc"),
    ("dc-ae-f32c32-mix-1.0", None, ""),
    ("dc-ae-f64c128-in-1.0", None, "2a4196ce1ea70cd379649cc17880cac4dcca496ab053eef8933c7f7dff42bcd1"),
    ("dc-ae-f64c128-mix-1.0", None, "ae11d521da6370b9dec34758f78a6359a3d486b121afb460bd549e8182c518d1"),
    ("dc-ae-f128c512-in-1.0", None, "ac5f46854b4cce213934a96ecad3270a04dc02c79d59ab62bad935a5c471577f"),
    ("dc-ae-f128c512-mix-1.0", None, ""),
)
_SPRINT = "dfd991d1b54ffabf22745c5885589d8f2a7bc59930d95d92bd741c4fc64454bb"


def _hugging_face(repository: str, file: str) -> str:
    return f"{HUGGING_FACE}{repository}/resolve/main/{file}"


def _tiny_rows() -> Iterator[OfficialFile]:
    offered: set[str] = set()
    for family, version, *checksums in _PTH:
        for part, git_sha1 in zip(BOTH, checksums, strict=True):
            # An encoder that did not change has one row, that of the newest version.
            if git_sha1:
                name = f"{family}_{part}.pth"
                sources = () if family in offered else tuple(place + name for place in _TAESD_PLACES)
                size = _PTH_SIZES.get(git_sha1)
                yield OfficialFile(
                    family, (part,), TINY, version, name, "MIT", size, git_sha1=git_sha1, sources=sources
                )
        offered.add(family)
    for family, version, file, git_sha1 in _TAEHV:
        sources = () if file in offered else tuple(place + file for place in _TAEHV_PLACES)
        offered.add(file)
        name = file.split("/")[-1]
        yield OfficialFile(family, BOTH, TINY, version, name, "MIT", git_sha1=git_sha1, sources=sources)
    for family, version, licence, address, checksum in _ELSEWHERE:
        hashes = {"git_sha1" if len(checksum) == 40 else "sha256": checksum}
        yield OfficialFile(
            family, BOTH, TINY, version, address.rsplit("/", 1)[1], licence, sources=(address,), **hashes
        )
    yield _QWEN_IMAGE_2_1
    for family, version, git_sha1 in _COMBINED:
        yield OfficialFile(family, BOTH, TINY, version, f"{family}_combined.pth", "MIT", git_sha1=git_sha1)
    offered.clear()
    for family, parts, version, file, size, sha256 in _HUGGING_FACE:
        whole = parts == BOTH and file.endswith(".safetensors")
        sources = (_hugging_face(f"madebyollin/{family}", file),) if whole and family not in offered else ()
        offered.update([family] if sources else [])
        name = f"{family}.safetensors" if whole else file
        yield OfficialFile(family, parts, TINY, version, name, "MIT", size, sha256, sources=sources)


def _kl_rows() -> Iterator[OfficialFile]:
    for family, version, name, licence, size, sha256, place in _KL:
        repository, file = ("/".join(place.split("/")[:2]), "/".join(place.split("/")[2:]) or name)
        sources = (_hugging_face(repository, file),) if place else ()
        yield OfficialFile(family, BOTH, AUTOENCODER_KL, version, name, licence, size, sha256, sources=sources)


def _dc_rows() -> Iterator[OfficialFile]:
    for family, size, sha256 in _DC:
        sources = (_hugging_face(f"mit-han-lab/{family}-diffusers", _WHOLE),) if sha256 else ()
        name = f"{family}.safetensors"
        yield OfficialFile(
            family, BOTH, AUTOENCODER_DC, "1.0", name, "Apache-2.0", size, sha256, sources=sources
        )
    yield OfficialFile(
        "sana-sprint-vae", BOTH, AUTOENCODER_DC, "1.0", "sana-sprint-vae.safetensors", "Apache-2.0", 1249044836, _SPRINT
    )


CATALOG: tuple[OfficialFile, ...] = (*_tiny_rows(), *_kl_rows(), *_dc_rows())


def downloads(family: str) -> list[list[OfficialFile]]:
    """Ways to get a family complete, best first; each is a list of files, all of which are needed.

    The split files come first: under the same names the hosts look for them too.
    """
    rows = [row for row in CATALOG if row.family == family and row.sources]
    split = [row for row in rows if len(row.parts) == 1]
    return [way for way in (split, *([row] for row in rows if row.parts == BOTH)) if way]


def downloadable(kinds: Iterable[str] = (TINY, AUTOENCODER_KL, AUTOENCODER_DC)) -> list[str]:
    """Families that can be downloaded, in the order of the catalogue."""
    return list(dict.fromkeys(row.family for row in CATALOG if row.sources and row.kind in set(kinds)))


def by_checksum(sha256: str, git_sha1: str) -> OfficialFile | None:
    """The official file with this content, whatever its name."""
    for row in CATALOG:
        if (row.sha256 and row.sha256 == sha256) or (row.git_sha1 and row.git_sha1 == git_sha1):
            return row
    return None
