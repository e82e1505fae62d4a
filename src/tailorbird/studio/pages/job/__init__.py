"""The page of one job: how far it is, its curves, checkpoints, facts and events, live until it has ended."""

from __future__ import annotations

from nicegui import ui

from tailorbird.studio.controls import copy_button, title
from tailorbird.studio.following import News, follow
from tailorbird.studio.job_lists import title_of
from tailorbird.studio.pages.job.checkpoints import Checkpoints
from tailorbird.studio.pages.job.course import Course
from tailorbird.studio.pages.job.curves import Charts
from tailorbird.studio.pages.job.facts import Facts
from tailorbird.studio.pages.job.feed import Feed
from tailorbird.studio.pages.job.surroundings import Surroundings
from tailorbird.studio.visit import Visit


async def page(visit: Visit, job_id: str) -> None:
    followed = await follow(visit, job_id)
    around = await Surroundings.read(visit, followed)
    # From here on nothing waits: what is drawn and what is listened for meet without a gap.
    job = followed.job
    with ui.element("div") as whole:
        ui.link(visit.t("job.all_jobs"), "/jobs").classes("quiet")
        title(visit, title_of(job))
        with ui.element("div").classes("row tight"):
            ui.label(job_id).classes("mono quiet")
            copy_button(visit, job_id)
    course = Course(visit, followed, around)
    charts = Charts(visit, followed)
    checkpoints = Checkpoints(visit, followed)
    facts = Facts(visit, followed, around)
    feed = Feed(visit, followed)

    async def ended() -> None:
        """The end brings files, a bill and a verdict."""
        fresh = await Surroundings.read(visit, followed)
        course.around(fresh)
        facts.around(fresh)

    def hear(news: News) -> None:
        course.hear(news)
        charts.hear(news)
        checkpoints.hear(news)
        facts.hear(news)
        feed.hear(news)
        if news.job and followed.ended:
            with whole:
                ui.timer(0.0, ended, once=True)

    followed.listen(whole, hear)
