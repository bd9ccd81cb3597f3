"""Frigate's published motion stage (frigate/motion/improved_motion.py, version 0.14, its published defaults) over raw
pictures from ffmpeg: one process a camera, as there. A lower bound of Frigate: no object detector, no event store.

    frigate_like.py WIDTH HEIGHT ffmpeg-arguments…    ffmpeg writes yuv420p to its standard output
"""

import subprocess
import sys

import cv2
import numpy

FRAME_HEIGHT, THRESHOLD, CONTOUR_AREA = 100, 30, 10
FRAME_ALPHA, DELTA_ALPHA, LIGHTNING = 0.01, 0.2, 0.8

width, height = int(sys.argv[1]), int(sys.argv[2])
size = (FRAME_HEIGHT * width // height, FRAME_HEIGHT)
average = numpy.zeros((size[1], size[0]), numpy.float32)
contrasts = numpy.zeros((50, 2), numpy.uint8)
contrasts[:, 1] = 255
calibrating, moving, seen, events = True, 0, 0, 0
# What its configuration asks of every process.
cv2.setNumThreads(1)

with subprocess.Popen(["ffmpeg", *sys.argv[3:]], stdout=subprocess.PIPE, bufsize=10**7) as ffmpeg:
    while True:
        picture = ffmpeg.stdout.read(width * height * 3 // 2)
        if len(picture) < width * height * 3 // 2:
            break
        grey = numpy.frombuffer(picture, numpy.uint8)[: width * height].reshape(height, width)
        small = cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST)
        low, high = numpy.percentile(small, 4).astype(numpy.uint8), numpy.percentile(small, 96).astype(numpy.uint8)
        if low < high:
            contrasts[seen % 50] = [low, high]
            seen += 1
            low, high = numpy.mean(contrasts, axis=0)
            small = ((numpy.clip(small, low, high) - low) / (high - low) * 255).astype(numpy.uint8)
        small = cv2.GaussianBlur(small, (3, 3), 1)
        delta = cv2.absdiff(small, cv2.convertScaleAbs(average))
        changed = cv2.dilate(cv2.threshold(delta, THRESHOLD, 255, cv2.THRESH_BINARY)[1], None, iterations=1)
        contours = cv2.findContours(changed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[-2]
        areas = [cv2.contourArea(contour) for contour in contours]
        boxes = sum(area > CONTOUR_AREA for area in areas)
        share = sum(areas) / (size[0] * size[1])
        if share < 0.05 and boxes <= 4:
            calibrating = False
        if calibrating or share > LIGHTNING:
            calibrating = True
        moving = moving + 1 if boxes else 0
        events += moving == 1
        if not boxes or moving >= 10:
            cv2.accumulateWeighted(small, average, DELTA_ALPHA if calibrating else FRAME_ALPHA)
