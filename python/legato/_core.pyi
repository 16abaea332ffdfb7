"""
The compiled core of Legato. Private: call it through the families.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
import typing_extensions
__all__: list[str] = ['CameraLivePath', 'CameraPathOptions', 'CameraPathStream', 'DiffusionModel', 'DiffusionNoise', 'RaspStream', 'VideoFiller', 'VideoPyramid', 'VideoTracker', 'active_isa', 'best_isa', 'build_text', 'camera_contain', 'camera_crop_rows', 'camera_exp_homography', 'camera_homography_capsule', 'camera_log_homography', 'camera_path_workspace_size', 'camera_smooth_path', 'camera_solve_banded', 'diffusion_chains_f32', 'diffusion_chains_f64', 'diffusion_evaluate_f32', 'diffusion_evaluate_f64', 'diffusion_normal', 'diffusion_philox4x32', 'diffusion_step', 'diffusion_step_quickly', 'diffusion_sums', 'diffusion_threefry4x32', 'helpers_started', 'last_isa', 'rasp_conjunction', 'rasp_finish', 'rasp_formula', 'rasp_has_fast_route', 'rasp_table', 'rasp_truth', 'rft_add_rewards_f32', 'rft_add_rewards_f64', 'rft_gae_f32', 'rft_gae_f64', 'rft_group_advantages', 'rft_group_moments', 'rft_json_fields', 'rft_merge_rewards', 'rft_number_integers', 'rft_number_strings', 'rft_rebuild_slots', 'rft_reward_moments', 'rft_token_stats', 'rft_token_stats_backward', 'rft_token_stats_backward_half', 'rft_token_stats_half', 'set_work_of_helper', 'version', 'video_fill_cells', 'video_fit_motion', 'video_warp', 'video_warp_packed']
class CameraPathOptions:
    """
    legato::camera::PathOptions, lengths in frame widths.
    """
    def __init__(self, *, model: str = 'homography', crop: typing.SupportsFloat | typing.SupportsIndex, window_scale: typing.SupportsFloat | typing.SupportsIndex, weights: typing.Annotated[collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], "FixedSize(4)"], anisotropy: typing.SupportsFloat | typing.SupportsIndex, shear: typing.SupportsFloat | typing.SupportsIndex, keystone: typing.SupportsFloat | typing.SupportsIndex, keystone_ratio: typing.SupportsFloat | typing.SupportsIndex, acceleration: typing.SupportsFloat | typing.SupportsIndex = 0.0, roll_weight: typing.SupportsFloat | typing.SupportsIndex = 1.0, bound: typing.SupportsFloat | typing.SupportsIndex, inset: typing.SupportsFloat | typing.SupportsIndex, pixel: typing.SupportsFloat | typing.SupportsIndex, relinearize: typing.SupportsInt | typing.SupportsIndex, tolerance: typing.SupportsFloat | typing.SupportsIndex, max_iterations: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
class CameraPathStream:
    """
    legato::camera::PathStream in memory of its own.
    """
    def __init__(self, options: CameraPathOptions, aspect: typing.SupportsFloat | typing.SupportsIndex, window: typing.SupportsInt | typing.SupportsIndex, stride: typing.SupportsInt | typing.SupportsIndex, predicted: typing.SupportsInt | typing.SupportsIndex, points: typing.SupportsInt | typing.SupportsIndex, salient_weight: typing.SupportsFloat | typing.SupportsIndex, target_weight: typing.SupportsFloat | typing.SupportsIndex, first: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def finish(self) -> dict:
        """
        Ends the scene.
        """
    def push(self, motion: numpy.typing.NDArray[numpy.float64], weight: numpy.typing.NDArray[numpy.float64], salient: numpy.typing.NDArray[numpy.float64], targets: numpy.typing.NDArray[numpy.float64], begin: typing.SupportsInt | typing.SupportsIndex) -> dict:
        """
        Takes frames from `begin` on until corrections come out.
        """
    @property
    def pending(self) -> int:
        """
        Frames taken whose corrections have not come out.
        """
class CameraLivePath:
    """
    legato::camera::LivePath in memory of its own.
    """
    def __init__(self, options: CameraPathOptions, aspect: typing.SupportsFloat | typing.SupportsIndex, latency: typing.SupportsInt | typing.SupportsIndex, predicted: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def finish(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        Ends the clip; the remaining (j, 3, 3) corrections.
        """
    def push(self, motion: numpy.typing.NDArray[numpy.float64] | None, cut: bool) -> numpy.typing.NDArray[numpy.float64]:
        """
        Takes a frame; the (0 or 1, 3, 3) corrections whose time has come.
        """
    def set_options(self, options: CameraPathOptions) -> None:
        """
        Options of all that is not final yet.
        """
    @property
    def pending(self) -> int:
        """
        Frames taken whose corrections have not come out.
        """
class VideoTracker:
    """
    legato::video::Tracker in memory of its own.
    """
    def __init__(self, width: typing.SupportsInt | typing.SupportsIndex, height: typing.SupportsInt | typing.SupportsIndex, model: typing.SupportsInt | typing.SupportsIndex, mask: numpy.ndarray, bit_depth: typing.SupportsInt | typing.SupportsIndex, region: typing.Annotated[collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"]) -> None:
        ...
    def matches(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        (m, 4) points of the last push, the inliers first.
        """
    def push(self, luma: numpy.ndarray, homography: numpy.typing.NDArray[numpy.float64], corner_covariance: numpy.typing.NDArray[numpy.float64]) -> tuple:
        """
        The motion of the next frame.
        """
    def reset(self) -> None:
        """
        The next frame counts as the first.
        """
class VideoPyramid:
    """
    legato::video::Pyramid in memory of its own.
    """
    def __init__(self, luma: numpy.ndarray, factor: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def corners(self, most: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float32]:
        """
        (n, 2) corners, best first.
        """
    def follow(self, to: VideoPyramid, points: numpy.typing.NDArray[numpy.float32], round_trip_px: typing.SupportsFloat | typing.SupportsIndex, moved: numpy.typing.NDArray[numpy.float32], found: numpy.typing.NDArray[numpy.uint8]) -> None:
        """
        Pyramidal Lucas-Kanade of (n, 2) points.
        """
class VideoFiller:
    """
    legato::video::fill with a workspace of its own.
    """
    def __init__(self) -> None:
        ...
    def fill(self, map: numpy.typing.NDArray[numpy.float64], pyramid: VideoPyramid, sources: collections.abc.Sequence[tuple[collections.abc.Sequence[numpy.ndarray], VideoPyramid, typing.Annotated[numpy.typing.ArrayLike, numpy.float64], typing.SupportsInt | typing.SupportsIndex]], targets: collections.abc.Sequence[numpy.ndarray], bit_depth: typing.SupportsInt | typing.SupportsIndex, siting: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex], fade_frames: typing.SupportsFloat | typing.SupportsIndex, most_error: typing.SupportsFloat | typing.SupportsIndex, errors: numpy.typing.NDArray[numpy.float32]) -> tuple:
        """
        Completes a picture from other frames: (outside, membrane, error, sources).
        """
class RaspStream:
    """
    A causal program, by its words, token by token.
    """
    def __init__(self, words: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> None:
        ...
    def generate(self, token: typing.SupportsInt | typing.SupportsIndex, stop: typing.SupportsInt | typing.SupportsIndex | None, most: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.int64], bool]:
        """
        Greedy generation from one more token: the outputs, and whether there was no trouble.
        """
    def last(self, tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> typing.Any:
        """
        Append tokens; the output at the last of them, or None.
        """
    def push(self, token: typing.SupportsInt | typing.SupportsIndex) -> typing.Any:
        """
        The output at one more token; None where it has none.
        """
    def reset(self) -> None:
        """
        Forget all tokens.
        """
    def tokens(self) -> numpy.typing.NDArray[numpy.int64]:
        """
        The tokens so far.
        """
    def whole(self, tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> typing.Any:
        """
        Forget all, then the outputs at these tokens, or None.
        """
class DiffusionNoise:
    """
    legato::diffusion::Noise; keeps the seeds alive.
    """
    def __init__(self, seeds: numpy.typing.NDArray[numpy.uint64], shared: bool, first_stream: typing.SupportsInt | typing.SupportsIndex, step: typing.SupportsInt | typing.SupportsIndex, substep: typing.SupportsInt | typing.SupportsIndex, philox: bool) -> None:
        ...
class DiffusionModel:
    """
    A Gaussian mixture or a point cloud; keeps its arrays alive.
    """
    @staticmethod
    def cloud(data: numpy.ndarray, log_weights: numpy.ndarray | None) -> DiffusionModel:
        ...
    @staticmethod
    def mixture(log_weights: numpy.typing.NDArray[numpy.float64], means: numpy.typing.NDArray[numpy.float64], variances: numpy.typing.NDArray[numpy.float64], rotations: numpy.typing.NDArray[numpy.float64] | None) -> DiffusionModel:
        ...
def active_isa() -> str:
    """
    Instruction set the kernels run.
    """
def best_isa() -> str:
    """
    Best instruction set of this processor.
    """
def build_text() -> str:
    """
    Compiler and architecture of the compiled core.
    """
def camera_contain(corrections: numpy.typing.NDArray[numpy.float64], aspect: typing.SupportsFloat | typing.SupportsIndex, options: CameraPathOptions, contained: numpy.typing.NDArray[numpy.float64]) -> None:
    """
    Corrections (n, 9) shrunk until the exact window is inside, into (n, 9).
    """
def camera_crop_rows(log: numpy.typing.NDArray[numpy.float64], aspect: typing.SupportsFloat | typing.SupportsIndex, options: CameraPathOptions, row_matrix: numpy.typing.NDArray[numpy.float64], row_bound: numpy.typing.NDArray[numpy.float64]) -> None:
    """
    Crop, area and side rows of one frame linearized at log, into (13, 9) and (13,).
    """
def camera_exp_homography(log: numpy.typing.NDArray[numpy.float64], homography: numpy.typing.NDArray[numpy.float64], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Exponentials of (n, 9) logarithms into (n, 9).
    """
def camera_homography_capsule(homography: numpy.typing.NDArray[numpy.float64]) -> typing_extensions.CapsuleType:
    """
    A copy of nine numbers as a capsule that owns them.
    """
def camera_log_homography(homography: numpy.typing.NDArray[numpy.float64], log: numpy.typing.NDArray[numpy.float64], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Logarithms of (n, 9) homographies into (n, 9).
    """
def camera_path_workspace_size(frames: typing.SupportsInt | typing.SupportsIndex, options: CameraPathOptions, points: typing.SupportsInt | typing.SupportsIndex = 0) -> int:
    """
    Bytes a solve of so many frames works in.
    """
def camera_smooth_path(motion: numpy.typing.NDArray[numpy.float64], aspect: typing.SupportsFloat | typing.SupportsIndex, options: CameraPathOptions, fixed: numpy.typing.NDArray[numpy.float64], frame_weight: numpy.typing.NDArray[numpy.float64], salient: numpy.typing.NDArray[numpy.float64], salient_weight: typing.SupportsFloat | typing.SupportsIndex, targets: numpy.typing.NDArray[numpy.float64], target_weight: typing.SupportsFloat | typing.SupportsIndex, corrections: numpy.typing.NDArray[numpy.float64], logs: numpy.typing.NDArray[numpy.float64], violation: numpy.typing.NDArray[numpy.float64]) -> dict:
    """
    Whole-clip camera path; lengths in frame widths.
    """
def camera_solve_banded(velocity: numpy.typing.NDArray[numpy.float64], weights: numpy.typing.NDArray[numpy.float64], quadratic: numpy.typing.NDArray[numpy.float64], linear: numpy.typing.NDArray[numpy.float64], acceleration: numpy.typing.NDArray[numpy.float64], row_matrix: numpy.typing.NDArray[numpy.float64], row_bound: numpy.typing.NDArray[numpy.float64], lower: numpy.typing.NDArray[numpy.float64], upper: numpy.typing.NDArray[numpy.float64], pinned: typing.SupportsInt | typing.SupportsIndex, soft_rows: typing.SupportsInt | typing.SupportsIndex, penalty: typing.SupportsFloat | typing.SupportsIndex, constant: typing.SupportsFloat | typing.SupportsIndex, tolerance: typing.SupportsFloat | typing.SupportsIndex, max_iterations: typing.SupportsInt | typing.SupportsIndex, path: numpy.typing.NDArray[numpy.float64]) -> dict:
    """
    The banded L1 program over (n, 8); the path holds the start and gets the solution.
    """
def diffusion_chains_f32(cond: DiffusionModel, uncond: DiffusionModel, rows: numpy.typing.NDArray[numpy.float64], noise: DiffusionNoise, x: numpy.typing.NDArray[numpy.float32], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Runs (R, 13) rows on (n, d) samples in place.
    """
def diffusion_chains_f64(cond: DiffusionModel, uncond: DiffusionModel, rows: numpy.typing.NDArray[numpy.float64], noise: DiffusionNoise, x: numpy.typing.NDArray[numpy.float64], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Runs (R, 13) rows on (n, d) samples in place.
    """
def diffusion_evaluate_f32(model: DiffusionModel, alpha: typing.SupportsFloat | typing.SupportsIndex, sigma: typing.SupportsFloat | typing.SupportsIndex, score: bool, x: numpy.typing.NDArray[numpy.float32], out: numpy.typing.NDArray[numpy.float32], log_density: numpy.typing.NDArray[numpy.float32] | None, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Denoised mean or score of (n, d) points, and the log density of a mixture where asked for.
    """
def diffusion_evaluate_f64(model: DiffusionModel, alpha: typing.SupportsFloat | typing.SupportsIndex, sigma: typing.SupportsFloat | typing.SupportsIndex, score: bool, x: numpy.typing.NDArray[numpy.float64], out: numpy.typing.NDArray[numpy.float64], log_density: numpy.typing.NDArray[numpy.float64] | None, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Denoised mean or score of (n, d) points, and the log density of a mixture where asked for.
    """
def diffusion_normal(storage: str, samples: typing.SupportsInt | typing.SupportsIndex, elements: typing.SupportsInt | typing.SupportsIndex, noise: DiffusionNoise, out: numpy.ndarray, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Standard normals of (samples, elements) into out.
    """
def diffusion_philox4x32(counter: numpy.typing.NDArray[numpy.uint32], key: numpy.typing.NDArray[numpy.uint32], out: numpy.typing.NDArray[numpy.uint32]) -> None:
    """
    Philox4x32-10 blocks of (n, 4) counters under (n, 2) keys.
    """
def diffusion_step(storage: str, samples: typing.SupportsInt | typing.SupportsIndex, elements: typing.SupportsInt | typing.SupportsIndex, coefficients: numpy.typing.NDArray[numpy.float64], x: numpy.ndarray, cond: numpy.ndarray, uncond: numpy.ndarray | None, given_noise: numpy.ndarray | None, noise: DiffusionNoise, out: numpy.ndarray, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    The fused step; coefficients (1, 4) or (samples, 4): a, cond, uncond, noise.
    """
def diffusion_step_quickly(x: typing.Any, eps: typing.Any, coef: typing.Any, eps_uncond: typing.Any, guidance_scale: typing.Any, seed: typing.Any, step: typing.Any, substep: typing.Any, first_sample: typing.Any, out: typing.Any, threads: typing.Any) -> typing.Any:
    """
    apply_step for plain arguments; None if they are not.
    """
def diffusion_sums(storage: str, samples: typing.SupportsInt | typing.SupportsIndex, elements: typing.SupportsInt | typing.SupportsIndex, cond: numpy.ndarray, uncond: numpy.ndarray, x: numpy.ndarray | None, out: numpy.typing.NDArray[numpy.float64], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    c.c, u.u, c.u, sum c, sum u, x.c, x.u, x.x of each sample into (samples, 8).
    """
def diffusion_threefry4x32(counter: numpy.typing.NDArray[numpy.uint32], key: numpy.typing.NDArray[numpy.uint32], rounds: typing.SupportsInt | typing.SupportsIndex, out: numpy.typing.NDArray[numpy.uint32]) -> None:
    """
    Threefry4x32 blocks of (n, 4) counters under (n, 4) keys.
    """
def helpers_started() -> int:
    """
    Helper threads that calls of this process have started so far.
    """
def last_isa() -> str:
    """
    Instruction set of the kernel copy that ran last in this thread.
    """
def rasp_conjunction(shape: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], lengths: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, causal: bool, terms: collections.abc.Sequence[tuple[typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]], value: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, reduction: typing.SupportsInt | typing.SupportsIndex, rounding: typing.SupportsInt | typing.SupportsIndex, fallback: typing.SupportsInt | typing.SupportsIndex, real_fallback: typing.SupportsFloat | typing.SupportsIndex, out: typing.Any, sign: typing.SupportsInt | typing.SupportsIndex, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Select-aggregate over a conjunction of (key, query, compare, predicate) terms.
    """
def rasp_finish(shape: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], lengths: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, reduction: typing.SupportsInt | typing.SupportsIndex, rounding: typing.SupportsInt | typing.SupportsIndex, fallback: typing.SupportsInt | typing.SupportsIndex, real_fallback: typing.SupportsFloat | typing.SupportsIndex, totals: typing.Any, out: typing.Any) -> None:
    """
    Outputs from totals (count, sum, best).
    """
def rasp_formula(shape: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], lengths: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, causal: bool, terms: collections.abc.Sequence[tuple[typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]], tables: collections.abc.Sequence[tuple[typing.Annotated[numpy.typing.ArrayLike, numpy.int32], typing.Annotated[numpy.typing.ArrayLike, numpy.int32], typing.Annotated[numpy.typing.ArrayLike, numpy.uint8]]], formula: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], value: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, reduction: typing.SupportsInt | typing.SupportsIndex, rounding: typing.SupportsInt | typing.SupportsIndex, fallback: typing.SupportsInt | typing.SupportsIndex, real_fallback: typing.SupportsFloat | typing.SupportsIndex, out: typing.Any, sign: typing.SupportsInt | typing.SupportsIndex, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Select-aggregate over a postfix formula, every pair in blocks.
    """
def rasp_has_fast_route(compares: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]) -> bool:
    """
    Whether a conjunction of these comparisons has a sub-quadratic route.
    """
def rasp_table(shape: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], lengths: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, causal: bool, table: tuple[typing.Annotated[numpy.typing.ArrayLike, numpy.int32], typing.Annotated[numpy.typing.ArrayLike, numpy.int32], typing.Annotated[numpy.typing.ArrayLike, numpy.uint8]], value: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None, reduction: typing.SupportsInt | typing.SupportsIndex, rounding: typing.SupportsInt | typing.SupportsIndex, fallback: typing.SupportsInt | typing.SupportsIndex, real_fallback: typing.SupportsFloat | typing.SupportsIndex, out: typing.Any, sign: typing.SupportsInt | typing.SupportsIndex, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Select-aggregate over a truth table of (key ids, query ids, truth).
    """
def rasp_truth(predicate: typing.SupportsInt | typing.SupportsIndex, keys: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], queries: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.uint8], int | None]:
    """
    Truth table of a compiled predicate, by its address, and the index of a pair for which it failed.
    """
def rft_add_rewards_f32(rewards: numpy.typing.NDArray[numpy.float32], groups: numpy.typing.NDArray[numpy.uint32], low: typing.SupportsFloat | typing.SupportsIndex, high: typing.SupportsFloat | typing.SupportsIndex, sums: numpy.typing.NDArray[numpy.float64], wide: numpy.typing.NDArray[numpy.int64]) -> int | None:
    """
    Adds rewards to the (g, 8) sums of their groups, or returns the index of the first outside of the range; None, and nothing is added, if there are rewards off the grid and no (g, 13) wide sums.
    """
def rft_add_rewards_f64(rewards: numpy.typing.NDArray[numpy.float64], groups: numpy.typing.NDArray[numpy.uint32], low: typing.SupportsFloat | typing.SupportsIndex, high: typing.SupportsFloat | typing.SupportsIndex, sums: numpy.typing.NDArray[numpy.float64], wide: numpy.typing.NDArray[numpy.int64]) -> int | None:
    """
    The same for float64.
    """
def rft_gae_f32(rewards: numpy.typing.NDArray[numpy.float32], values: numpy.typing.NDArray[numpy.float32], mask: numpy.typing.NDArray[numpy.uint8], bootstrap: numpy.typing.NDArray[numpy.float32], gamma: typing.SupportsFloat | typing.SupportsIndex, lam: typing.SupportsFloat | typing.SupportsIndex, advantages: numpy.typing.NDArray[numpy.float32], returns: numpy.typing.NDArray[numpy.float32]) -> None:
    """
    Advantages and returns of (n, m) steps.
    """
def rft_gae_f64(rewards: numpy.typing.NDArray[numpy.float64], values: numpy.typing.NDArray[numpy.float64], mask: numpy.typing.NDArray[numpy.uint8], bootstrap: numpy.typing.NDArray[numpy.float64], gamma: typing.SupportsFloat | typing.SupportsIndex, lam: typing.SupportsFloat | typing.SupportsIndex, advantages: numpy.typing.NDArray[numpy.float64], returns: numpy.typing.NDArray[numpy.float64]) -> None:
    """
    Advantages and returns of (n, m) steps.
    """
def rft_group_advantages(rewards: numpy.typing.NDArray[numpy.float64], groups: numpy.typing.NDArray[numpy.int64], most: typing.SupportsInt | typing.SupportsIndex, scale: typing.SupportsInt | typing.SupportsIndex, ddof: typing.SupportsInt | typing.SupportsIndex, eps: typing.SupportsFloat | typing.SupportsIndex, raw_singletons: bool, advantages: numpy.typing.NDArray[numpy.float64]) -> tuple[int, int, int]:
    """
    Advantages of rewards; returns the status, the first bad index and the number of groups.
    """
def rft_group_moments(rewards: numpy.typing.NDArray[numpy.float64], groups: numpy.typing.NDArray[numpy.int64], count: numpy.typing.NDArray[numpy.int64], least: numpy.typing.NDArray[numpy.float64], largest: numpy.typing.NDArray[numpy.float64], mean: numpy.typing.NDArray[numpy.float64], m2: numpy.typing.NDArray[numpy.float64]) -> tuple[int, int]:
    """
    Moments of each group; returns the status and the first bad index.
    """
def rft_json_fields(text: numpy.typing.NDArray[numpy.uint8], paths: collections.abc.Sequence[collections.abc.Sequence[str]], fields: numpy.typing.NDArray[numpy.int64]) -> tuple[int, int]:
    """
    Begin, end and kind of values into (n, paths, 3); returns the rows, and the place of a line that is no object or the length of the text.
    """
def rft_merge_rewards(sums: numpy.typing.NDArray[numpy.float64], wide: numpy.typing.NDArray[numpy.int64], groups: numpy.typing.NDArray[numpy.uint32], into: numpy.typing.NDArray[numpy.float64], into_wide: numpy.typing.NDArray[numpy.int64]) -> None:
    """
    Adds (g, 8) and (g, 13) sums to those of other groups.
    """
def rft_number_integers(names: numpy.typing.NDArray[numpy.int64], slots: numpy.typing.NDArray[numpy.uint64], count: typing.SupportsInt | typing.SupportsIndex, integers: numpy.typing.NDArray[numpy.int64], numbers: numpy.typing.NDArray[numpy.uint32]) -> tuple[int, int]:
    """
    Numbers of the names in a table of `count`; returns how many there are then, and how many names got a number.
    """
def rft_number_strings(name_offsets: numpy.typing.NDArray[numpy.int32], name_text: numpy.typing.NDArray[numpy.uint8], slots: numpy.typing.NDArray[numpy.uint64], count: typing.SupportsInt | typing.SupportsIndex, offsets: numpy.typing.NDArray[numpy.uint64], text: numpy.typing.NDArray[numpy.uint8], numbers: numpy.typing.NDArray[numpy.uint32]) -> tuple[int, int]:
    """
    The same for strings.
    """
def rft_rebuild_slots(slots: numpy.typing.NDArray[numpy.uint64], count: typing.SupportsInt | typing.SupportsIndex, integers: numpy.typing.NDArray[numpy.int64], offsets: numpy.typing.NDArray[numpy.uint64], text: numpy.typing.NDArray[numpy.uint8]) -> None:
    """
    Fills slots, all zero, for the names of a table.
    """
def rft_reward_moments(sums: numpy.typing.NDArray[numpy.float64], wide: numpy.typing.NDArray[numpy.int64], mean: numpy.typing.NDArray[numpy.float64], m2: numpy.typing.NDArray[numpy.float64]) -> None:
    """
    Mean and sum of squared deviations of (g, 8) sums.
    """
def rft_token_stats(logits: numpy.typing.NDArray[numpy.float32], ids: numpy.typing.NDArray[numpy.int64], temperature: typing.SupportsFloat | typing.SupportsIndex, mask: numpy.typing.NDArray[numpy.uint8], stats: numpy.typing.NDArray[numpy.float32], entropy: bool, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Statistics of (n, v) float32 logits into (6, n); the second and third row are left alone without entropy.
    """
def rft_token_stats_backward(logits: numpy.typing.NDArray[numpy.float32], ids: numpy.typing.NDArray[numpy.int64], temperature: typing.SupportsFloat | typing.SupportsIndex, mask: numpy.typing.NDArray[numpy.uint8], stats: numpy.typing.NDArray[numpy.float32], grad_logp: numpy.typing.NDArray[numpy.float32], grad_entropy: numpy.typing.NDArray[numpy.float32], gradient: numpy.typing.NDArray[numpy.float32], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Gradient with respect to (n, v) float32 logits; stats: entropy, largest, log_sum.
    """
def rft_token_stats_backward_half(logits: numpy.typing.NDArray[numpy.uint16], brain: bool, ids: numpy.typing.NDArray[numpy.int64], temperature: typing.SupportsFloat | typing.SupportsIndex, mask: numpy.typing.NDArray[numpy.uint8], stats: numpy.typing.NDArray[numpy.float32], grad_logp: numpy.typing.NDArray[numpy.float32], grad_entropy: numpy.typing.NDArray[numpy.float32], gradient: numpy.typing.NDArray[numpy.uint16], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    The same for bfloat16 (brain) or float16 given as 16-bit patterns.
    """
def rft_token_stats_half(logits: numpy.typing.NDArray[numpy.uint16], brain: bool, ids: numpy.typing.NDArray[numpy.int64], temperature: typing.SupportsFloat | typing.SupportsIndex, mask: numpy.typing.NDArray[numpy.uint8], stats: numpy.typing.NDArray[numpy.float32], entropy: bool, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    The same for bfloat16 (brain) or float16 given as 16-bit patterns.
    """
def set_work_of_helper(nanoseconds: typing.SupportsFloat | typing.SupportsIndex) -> None:
    """
    Threads of a call start where each has so much work; with 0 all that are asked for. For tests.
    """
def version() -> str:
    """
    Version of the compiled core.
    """
def video_fill_cells(width: typing.SupportsInt | typing.SupportsIndex, height: typing.SupportsInt | typing.SupportsIndex) -> tuple[int, int]:
    """
    Cells, across and down, of the map of errors of a filled picture.
    """
def video_fit_motion(here: numpy.typing.NDArray[numpy.float32], there: numpy.typing.NDArray[numpy.float32], width: typing.SupportsInt | typing.SupportsIndex, height: typing.SupportsInt | typing.SupportsIndex, model: typing.SupportsInt | typing.SupportsIndex, threshold_px: typing.SupportsFloat | typing.SupportsIndex, hypotheses: typing.SupportsInt | typing.SupportsIndex, seed: typing.SupportsInt | typing.SupportsIndex, homography: numpy.typing.NDArray[numpy.float64], inlier: numpy.typing.NDArray[numpy.uint8], corner_covariance: numpy.typing.NDArray[numpy.float64]) -> tuple:
    """
    Robust fit of a motion to (n, 2) matches.
    """
def video_warp(map: numpy.typing.NDArray[numpy.float64], sources: collections.abc.Sequence[numpy.ndarray], targets: collections.abc.Sequence[numpy.ndarray], bit_depth: typing.SupportsInt | typing.SupportsIndex, siting: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex], interpolation: typing.SupportsInt | typing.SupportsIndex, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Luma and chroma through a homography of the luma.
    """
def video_warp_packed(map: numpy.typing.NDArray[numpy.float64], source: numpy.ndarray, target: numpy.ndarray, interpolation: typing.SupportsInt | typing.SupportsIndex, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Packed pixels of three bytes through a homography.
    """
__pyx_capi__: dict
