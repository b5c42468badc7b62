"""The main job: labelled data in, the best adapted classifier and the reasons for it out."""
