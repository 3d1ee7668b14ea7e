"""PhantomSpec: which simulated dataset `data: phantom` builds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from uscl.spec.section import Count, Positive, Section


class PhantomSpec(Section):
    """Size of the simulated kidney phantom; everything its frames depend on, and nothing else."""

    patients: Count
    """Kidneys, each with an anatomy of its own; splits are made by patient."""
    clips_per_patient: Count
    """Clips per patient, each in one view."""
    frames_per_clip: Annotated[int, Field(ge=2)]
    """Frames per clip."""
    labels_per_patient: Count
    """Labelled frames per patient, spread over the patient's clips."""
    size: Annotated[int, Field(ge=16, multiple_of=16)]
    """Side of the square frames, px."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed is another set of patients."""
    frame_rate_hz: Positive = 25.0
    """Gives the frames their times; motion between frames falls with it."""
    difficulty: Positive = 1.0
    """Scales what hides the anatomy: tissue contrast falls and shadows grow with it; 1 is the demo's."""
