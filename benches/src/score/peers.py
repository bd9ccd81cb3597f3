"""Other detectors over the pictures that the box decoded, one film a line on standard input.

In, JSON a line:  {"grey": path, "width": w, "height": h, "times": [s, ...],
                   "masks": archive or null, "fps": f, "ours": path or null, "ours_size": [w, h]}
Out, JSON a line: {"states": {name: [[s, on], ...]}, "pixels": {name: [hit, false, missed]}, "opencv": version}

grey: luma planes one after the other, without padding. ours: our masks, a byte a pixel, one a picture.
masks: PNGs named by frame from 1 as CDnet 2014 does (Wang et al., CVPRW 2014): 255 moving, 170 unknown,
85 outside the region of interest, 50 shadow, 0 still.
"""

import io
import json
import re
import sys
import zipfile

import cv2
import numpy as np

# A contour counts from this area on a picture 100 high: Frigate's default, for every mask here.
CONTOUR_AREA = 10
CONTOUR_HEIGHT = 100


def large_contour(mask):
    """Whether the mask holds a contour larger than the least area, scaled to its height."""
    least = CONTOUR_AREA * (mask.shape[0] / CONTOUR_HEIGHT) ** 2
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return any(cv2.contourArea(contour) > least for contour in contours)


class Subtractor:
    """An OpenCV background subtractor with its defaults; what it calls shadow is not foreground."""

    def __init__(self, make, shadows):
        self.model = make(detectShadows=shadows)

    def see(self, grey, _):
        mask = (self.model.apply(grey) == 255).astype(np.uint8) * 255
        return large_contour(mask), mask


class FrameDifference:
    """Against the picture before: 25 levels, dilated twice, the textbook way."""

    def __init__(self):
        self.before = None

    def see(self, grey, _):
        blurred = cv2.GaussianBlur(grey, (5, 5), 0)
        before, self.before = self.before, blurred
        if before is None:
            return False, np.zeros_like(grey)
        mask = (cv2.absdiff(blurred, before) > 25).astype(np.uint8) * 255
        mask = cv2.dilate(mask, None, iterations=2)
        return large_contour(mask), mask


class Frigate:
    """Frigate's published motion method with its published defaults.

    100 high, contrast stretched between smoothed 4th and 96th percentiles, small blur, difference of more than 30
    from a slow mean (frame_alpha 0.01; 0.2 while it calibrates), dilated, contours of more than 10 pixels.
    It calibrates at first and after more than 80 % of the picture changed (lightning_threshold), until less than 5 %
    moves in at most four boxes; while it does, its boxes are not used. 5 pictures a second.
    """

    HEIGHT, THRESHOLD, ALPHA, DELTA_ALPHA, LIGHTNING = 100, 30, 0.01, 0.2, 0.8
    HISTORY, STEP_S = 50, 0.2

    def __init__(self):
        self.mean = None
        self.range = np.tile(np.array([0, 255], np.uint8), (self.HISTORY, 1))
        self.at = self.moving = 0
        self.calibrating = True
        self.due = None

    def see(self, grey, t):
        if self.due is not None and t < self.due - 0.02:
            return None
        self.due = (t if self.due is None or t > self.due + self.STEP_S else self.due) + self.STEP_S
        height, width = grey.shape
        small = cv2.resize(grey, (self.HEIGHT * width // height, self.HEIGHT), interpolation=cv2.INTER_NEAREST)
        low, high = (int(np.percentile(small, part)) for part in (4, 96))
        if low < high:
            self.range[self.at % self.HISTORY] = low, high
            self.at += 1
            low, high = self.range.mean(axis=0)
            small = ((np.clip(small, low, high) - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
        small = cv2.GaussianBlur(small, (3, 3), 1, borderType=cv2.BORDER_REFLECT)
        if self.mean is None:
            self.mean = np.zeros(small.shape, np.float32)
        delta = cv2.absdiff(small, cv2.convertScaleAbs(self.mean))
        mask = cv2.dilate((delta > self.THRESHOLD).astype(np.uint8) * 255, None, iterations=1)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        areas = [cv2.contourArea(contour) for contour in contours]
        boxes = sum(area > CONTOUR_AREA for area in areas)
        share = sum(areas) / mask.size
        if share < 0.05 and boxes <= 4:
            self.calibrating = False
        if self.calibrating or share > self.LIGHTNING:
            self.calibrating = True
        self.moving = self.moving + 1 if boxes else 0
        if not boxes or self.moving >= 10:
            cv2.accumulateWeighted(small, self.mean, self.DELTA_ALPHA if self.calibrating else self.ALPHA)
        return boxes > 0 and not self.calibrating, mask


PEERS = {
    "MOG2": lambda: Subtractor(cv2.createBackgroundSubtractorMOG2, False),
    "MOG2, shadows": lambda: Subtractor(cv2.createBackgroundSubtractorMOG2, True),
    "KNN": lambda: Subtractor(cv2.createBackgroundSubtractorKNN, False),
    "KNN, shadows": lambda: Subtractor(cv2.createBackgroundSubtractorKNN, True),
    "Frigate's method": Frigate,
    "frame difference": FrameDifference,
}


def gold(archive):
    """Masks by frame, counted from 0."""
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            number = re.search(r"(\d+)\.png$", name)
            if number:
                data = np.frombuffer(io.BytesIO(files.read(name)).getvalue(), np.uint8)
                yield int(number.group(1)) - 1, cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def count(sums, mask, truth):
    mask = cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    moving, judged = truth == 255, (truth == 255) | (truth <= 50)
    sums[0] += int(np.count_nonzero(mask & moving))
    sums[1] += int(np.count_nonzero(mask & judged & ~moving))
    sums[2] += int(np.count_nonzero(~mask & moving))


def truths_by_picture(film):
    """The mask of the frame that a picture shows, for the pictures that have one."""
    if not film["masks"]:
        return {}
    by_frame = dict(gold(film["masks"]))
    frames = (round(t * film["fps"]) for t in film["times"])
    return {at: by_frame[frame] for at, frame in enumerate(frames) if frame in by_frame}


def play(film):
    width, height, times = film["width"], film["height"], film["times"]
    pictures = np.memmap(film["grey"], np.uint8, "r", shape=(len(times), height, width)) if times else []
    truths = truths_by_picture(film)
    states, pixels = {}, {}
    for name, make in PEERS.items():
        peer, track, sums = make(), [], [0, 0, 0]
        for at, t in enumerate(times):
            seen = peer.see(np.ascontiguousarray(pictures[at]), t)
            if seen is None:
                continue
            track.append([t, bool(seen[0])])
            if at in truths:
                count(sums, seen[1], truths[at])
        states[name] = track
        if truths:
            pixels[name] = sums
    if truths and film["ours"]:
        w, h = film["ours_size"]
        ours, sums = np.memmap(film["ours"], np.uint8, "r", shape=(len(times), h, w)), [0, 0, 0]
        for at, truth in truths.items():
            count(sums, np.ascontiguousarray(ours[at]), truth)
        pixels["ours"] = sums
    return {"states": states, "pixels": pixels, "opencv": cv2.__version__}


if __name__ == "__main__":
    cv2.setNumThreads(1)
    cv2.setRNGSeed(1)
    for line in sys.stdin:
        print(json.dumps(play(json.loads(line))), flush=True)
