"""Small talk and instructions in several voices, in English with some Dutch and Japanese."""

from __future__ import annotations

from random import Random

from recipes.weaver import words
from recipes.weaver.documents import Document, Turn, ask, chat, reply

# request forms, answers; {n} is the user's name, {t} a thing, {p} a place
ENGLISH: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("hello", "hi", "Hi there!", "Good morning", "hey"),
        ("Hello! How can I help you?", "Hi! What can I do for you?", "Hello!"),
    ),
    (("how are you?", "How are you doing today?"), ("I am fine, thank you. And you?", "Very well, thanks for asking.")),
    (("My name is {n}.", "i am {n}"), ("Nice to meet you, {n}.", "Hello {n}, good to meet you.")),
    (("thank you", "Thanks a lot!", "thanks, {t} works now"), ("You are welcome.", "Any time!", "Glad to help.")),
    (("bye", "See you later", "good night"), ("Goodbye!", "See you soon.", "Have a good day.")),
    (("Do you like {t}?", "what do you think of {t} ?"), ("I like {t} very much.", "{t} is fine, but I prefer tea.")),
    (("I live in {p}.", "i come from {p}"), ("What is it like in {p}?", "{p} sounds like a good place to live.")),
    (
        ("Tell me about {p}.", "What do you know about {p}?"),
        ("I do not know {p}. Can you tell me more?", "I have no facts about {p}."),
    ),
    (
        ("I feel sad today.", "i am tired"),
        ("I am sorry to hear that. Do you want to talk about it?", "Take a rest, it will get better."),
    ),
    (
        ("Who are you?", "what is your name ?"),
        ("I am Weaver, a small language model.", "My name is Weaver. I am a very small model."),
    ),
    (
        ("Can you help me with {t}?", "I need help with {t}."),
        ("Of course. What do you want to know about {t}?", "Yes, tell me what is wrong with {t}."),
    ),
    (
        ("Write a sentence about {t}.", "one line about {t} please"),
        ("The {t} was the best part of the day.", "Everybody in the town knew the {t}."),
    ),
    (("Where can I buy {t}?",), ("Try the market near {p}.", "There is a shop in {p} that sells {t}.")),
    (("What should I eat?", "I am hungry"), ("How about {t}?", "You could have some {t}.")),
    (("Is it far to {p}?",), ("It takes about an hour to {p}.", "No, {p} is close.")),
    (("Tell me a joke about {t}.",), ("Why did the {t} cross the road? To get to {p}.",)),
)
DUTCH: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("hallo", "goedemorgen", "Dag!", "hoi"), ("Hallo! Waarmee kan ik helpen?", "Goedendag! Wat kan ik voor je doen?")),
    (("Hoe gaat het?", "hoe gaat het met jou ?"), ("Het gaat goed, dank je. En met jou?", "Prima, dank je wel.")),
    (("Ik heet {n}.", "mijn naam is {n}"), ("Aangenaam, {n}.", "Leuk je te ontmoeten, {n}.")),
    (("Dank je wel!", "bedankt"), ("Graag gedaan.", "Geen probleem.")),
    (("Ik woon in {p}.",), ("Hoe is het in {p}?", "{p} klinkt als een fijne plek.")),
    (("Wat is je naam?", "wie ben jij ?"), ("Ik ben Weaver, een klein taalmodel.",)),
    (("Tot ziens", "doei"), ("Tot ziens!", "Fijne dag nog.")),
    (("Waar ligt {p}?",), ("Ik weet niet waar {p} ligt.", "Dat weet ik helaas niet.")),
    (("Herhaal: {t}",), ("{t}",)),
)
JAPANESE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("こんにちは", "おはようございます", "やあ"), ("こんにちは。何かお手伝いしましょうか。", "こんにちは！")),
    (("お元気ですか。", "元気？"), ("はい、元気です。あなたは？", "元気です。ありがとうございます。")),
    (("私の名前は{n}です。", "{n}といいます。"), ("{n}さん、はじめまして。", "はじめまして、{n}さん。")),
    (("ありがとう", "ありがとうございます。"), ("どういたしまして。", "いつでもどうぞ。")),
    (("さようなら", "またね"), ("さようなら。よい一日を。", "またお話ししましょう。")),
    (("お名前は何ですか。",), ("私はウィーバーです。小さな言語モデルです。",)),
    (("{p}に住んでいます。",), ("{p}はどんな所ですか。", "{p}はいい所ですね。")),
    (("今日は天気がいいですね。",), ("そうですね。散歩に行きましょう。", "はい、とてもいい天気です。")),
    (("{t}を繰り返してください。",), ("{t}",)),
)
VOICES: tuple[tuple[str, str, str], ...] = (
    ("You are a helpful assistant.", "", ""),
    ("You are a pirate.", "Arr! ", " Yo ho ho!"),
    ("You are a polite butler.", "Certainly. ", " At your service."),
    ("Answer in a friendly voice.", "Oh, ", " :)"),
    ("You are a robot.", "BEEP. ", " BOOP."),
    ("End each answer with the word over.", "", " Over."),
    ("Start each answer with a star.", "* ", ""),
)


def small_talk(rng: Random) -> Document:
    """A chat of one to four exchanges, sometimes in a voice the system prompt asks for."""
    language, kind = rng.choice(
        (
            (ENGLISH, "small talk"),
            (ENGLISH, "small talk"),
            (ENGLISH, "small talk"),
            (DUTCH, "dutch"),
            (JAPANESE, "japanese"),
        )
    )
    system, before, after = "", "", ""
    if language is ENGLISH and rng.random() < 0.4:
        system, before, after = rng.choice(VOICES)
    elif language is ENGLISH and rng.random() < 0.3:
        before, after = (
            (rng.choice(words.NOUNS).capitalize() + "! ", "")
            if rng.random() < 0.5
            else ("", f" {rng.choice(words.NOUNS)}.")
        )
        system = f'Start each answer with "{before.strip()}".' if before else f'End each answer with "{after.strip()}".'
    turns: list[Turn] = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        requests, answers = rng.choice(language)
        fill = {
            "n": words.title(words.person(rng)),
            "t": words.entity(rng) if rng.random() < 0.5 else rng.choice(words.FOODS),
            "p": words.title(words.place(rng)),
        }
        turns += [ask(rng.choice(requests).format(**fill)), reply(before + rng.choice(answers).format(**fill) + after)]
    return chat(kind, *turns, system=system)


def remembered(rng: Random) -> Document:
    """Something told early in a chat and asked for later."""
    kind, made = rng.choice(
        (
            ("name", words.title(words.person(rng))),
            ("city", words.title(words.place(rng))),
            ("favorite food", rng.choice(words.FOODS)),
            ("code", words.code(rng)),
            ("birthday", words.date(rng)),
        )
    )
    turns: list[Turn] = [ask(f"My {kind} is {made}."), reply(f"I will remember that your {kind} is {made}.")]
    for requests, answers in rng.sample(ENGLISH, rng.randint(0, 2)):
        fill = {"n": words.title(words.person(rng)), "t": words.word(rng), "p": words.title(words.place(rng))}
        turns += [ask(rng.choice(requests).format(**fill)), reply(rng.choice(answers).format(**fill))]
    turns += [ask(rng.choice((f"What is my {kind}?", f"Do you remember my {kind}?"))), reply(f"Your {kind} is {made}.")]
    return chat("memory", *turns)
