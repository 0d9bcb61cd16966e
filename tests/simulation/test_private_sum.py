"""A private sum in which peers die at every step: what is left is the planned noise, and nobody's protection is less."""

from __future__ import annotations

import numpy as np
import pytest
from sum_world import COUNT, N_PEERS, N_PEOPLE, NOTICED_S, PLAN, TIMES, Killer, SumWorld

from p2prec.model.nearest import decode
from p2prec.peer import sum_entry
from p2prec.peer.sum_messages import (
    Claimed,
    Contributes,
    Deposit,
    Enrol,
    HandOver,
    Inherited,
    Masked,
    MaskNoted,
    NotMasked,
    Opened,
    Outgoing,
    Pair,
    Seen,
    SumAnswer,
    SumCommit,
    SumMessage,
    SumOffer,
    TakenOut,
    Withdrawn,
    Witnessed,
)
from p2prec.privacy.masks import are_partners
from p2prec.privacy.plan import COLLUDING, MEAN_PARTNERS
from p2prec.types import PeerId, SwarmId

CLEAN = 1.3
"""Error over planned noise: sampling over 480 coordinates (3%), what eight bits add, and fewer contributions than peers. A single
mask that does not cancel adds 3."""


def test_without_deaths_everybody_gets_the_mean() -> None:
    world = SumWorld(1).run()
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)
    assert sorted(world.ledger) == sorted(world.ids)
    assert sum(world.peers[peer].value.is_settled for peer in world.living) >= N_PEERS - 2


KINDS = [Enrol, Pair, Masked, MaskNoted, Deposit, SumOffer, SumAnswer, SumCommit]


@pytest.mark.slow
@pytest.mark.parametrize("victims", ["sender", "receiver", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_death_at_every_step(kind: type[SumMessage], victims: str) -> None:
    """Three times in the life of a sum, the sender, the receiver or both die as a message of the kind arrives."""
    world = SumWorld(7, _at_messages(kind, victims, after=(0.0, 3.0, 8.0))).run()
    assert world.dead
    assert world.error_ratio() < CLEAN


def _at_messages(kind: type[SumMessage], victims: str, after: tuple[float, ...]) -> Killer:
    waiting = list(after)

    def killer(sender: PeerId, receiver: PeerId, message: SumMessage, now: float) -> list[PeerId]:
        if not waiting or not isinstance(message, kind) or now < waiting[0]:
            return []
        waiting.pop(0)
        return {"sender": [sender], "receiver": [receiver], "both": [sender, receiver]}[victims]

    return killer


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Claimed, Inherited, Seen])
def test_death_of_those_who_mend(kind: type[SumMessage]) -> None:
    """Two peers die, one of them before it contributes; and one that is about to repair what that left dies as well."""
    mended: list[PeerId] = []

    def killer(sender: PeerId, receiver: PeerId, message: SumMessage, now: float) -> list[PeerId]:
        if isinstance(message, kind) and not mended:
            mended.append(sender)
            return [sender]
        return []

    world = SumWorld(3, killer)
    world.at(1.6, lambda: world.kill(world.ids[9]))
    world.at(6.0, lambda: world.kill(world.ids[5]))
    world.run()
    assert mended
    assert world.error_ratio() < CLEAN


def _partners(world: SumWorld, peer: PeerId) -> list[PeerId]:
    return [one for one in world.ids if are_partners(SwarmId(bytes(32)), 1, peer, one, MEAN_PARTNERS, N_PEOPLE)]


@pytest.mark.parametrize("owner_dies", [False, True])
def test_who_has_too_few_answers_takes_its_masks_back_aloud(owner_dies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its partners know that it has masked with them, and it lives: without a word their masks would stay."""
    world = SumWorld(3)
    few = min(world.ids, key=lambda peer: len(_partners(world, peer)))
    sits_out, dies = _partners(world, few)[:2]
    monkeypatch.setattr(sum_entry, "MIN_PARTNERS", len(_partners(world, few)))
    index = frozenset((world.ids.index(few),))
    world = SumWorld(3, silent=index, full=frozenset((world.ids.index(sits_out),)))
    if owner_dies:
        world.at(TIMES.contribute_s + 3.0, lambda: world.kill(dies))
    world.run()
    withdrawn = {sender for _, sender, _, message in world.sent if isinstance(message, Withdrawn)}
    assert few in withdrawn
    assert "have answered" in world.peers[few].sat_out
    assert not any(world.peers[peer].mixed_again for peer in world.living)
    world.ledger[:] = [peer for peer in world.ledger if peer not in withdrawn]
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(len(set(world.ledger)), abs=1e-2)


def test_who_has_taken_its_masks_back_puts_none_in_for_a_partner_that_is_restored_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The partner whose answer is missing has died, and is restored as it was sealed. Its mask is taken out by others, once."""
    world = SumWorld(3)
    few = min(world.ids, key=lambda peer: len(_partners(world, peer)))
    monkeypatch.setattr(sum_entry, "MIN_PARTNERS", len(_partners(world, few)))
    dies: list[PeerId] = []

    def killer(sender: PeerId, receiver: PeerId, message: SumMessage, now: float) -> list[PeerId]:
        if not isinstance(message, Masked) or receiver != few or dies:
            return []
        dies.append(sender)
        return dies

    world = SumWorld(3, killer, silent=frozenset((world.ids.index(few),))).run()
    withdrawn = {sender for _, sender, _, message in world.sent if isinstance(message, Withdrawn)}
    assert few in withdrawn
    assert {message.owner for _, _, _, message in world.sent if isinstance(message, Opened)} == set(dies)
    assert not any(world.peers[peer].mixed_again for peer in world.living)
    world.ledger[:] = [peer for peer in world.ledger if peer not in withdrawn]
    assert world.error_ratio() < CLEAN


def test_who_has_taken_its_masks_back_has_none_that_others_could_take_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had masked with a partner that died before it contributed; it withdrew, mixed nothing of its own, and died."""
    world = SumWorld(3)
    few = min(world.ids, key=lambda peer: len(_partners(world, peer)))
    absent = _partners(world, few)[0]
    monkeypatch.setattr(sum_entry, "MIN_PARTNERS", len(_partners(world, few)))
    world = SumWorld(3, silent=frozenset((world.ids.index(few),)))
    world.at(TIMES.contribute_s - 0.3, lambda: world.kill(absent))
    world.at((TIMES.contribute_s + TIMES.recover_s) / 2, lambda: world.kill(few))
    world.run()
    assert few in {sender for _, sender, _, message in world.sent if isinstance(message, Withdrawn)}
    assert any(isinstance(message, TakenOut) for *_, message in world.sent)
    world.ledger.remove(few)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(len(world.ledger), abs=1e-2)


@pytest.mark.parametrize("dies_s", [-0.1, 0.3, 3.0])
def test_death_of_whoever_is_to_take_a_mask_out_for_a_dead_peer(dies_s: float) -> None:
    """A peer dies before it contributes, and one of its partners after. What it takes to take that mask out is said while the one
    whose part it is has just died, is about to, or has long done it: in the last case it is not to be done twice.
    """
    world = SumWorld(3)
    absent = world.ids[9]
    first, *others = _partners(world, absent)
    world.at(1.6, lambda: world.kill(absent))
    world.at(6.0, lambda: world.kill(others[-1]))
    world.at(TIMES.recover_s + 2 * TIMES.notice_s + dies_s, lambda: world.kill(first))
    world.run()
    told = [message for _, _, _, message in world.sent if isinstance(message, TakenOut)]
    assert any((message.owner, message.absent) == (others[-1], absent) for message in told)
    assert not any(world.peers[peer].mixed_again for peer in world.living)
    assert world.error_ratio() < CLEAN


def test_a_tenth_dies_in_the_first_rounds() -> None:
    world = SumWorld(11)
    for number, peer in enumerate(world.rng.permutation(N_PEERS)[: N_PEERS // 10].tolist()):
        world.at(3.0 + 1.1 * number, lambda peer=peer: world.kill(world.ids[peer]))  # type: ignore[misc]
    world.run()
    assert len(world.dead) == N_PEERS // 10
    assert world.error_ratio() < CLEAN


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_three_that_met_in_a_row_may_die_before_that_is_noticed(seed: int) -> None:
    """One exchanges with a second, that with a third, the third with somebody else; nobody else has seen the first's last state.
    The second has left it with others as soon as the link was gone.
    """
    last: dict[PeerId, tuple[PeerId, ...]] = {}
    """With whom each has exchanged, one after the other."""
    chosen: list[PeerId] = []

    def killer(sender: PeerId, receiver: PeerId, message: SumMessage, now: float) -> list[PeerId]:
        if chosen or not isinstance(message, SumCommit):
            return []
        for one, other in ((sender, receiver), (receiver, sender)):
            last[one] = (*last.get(one, ()), other)
        for third in (sender, receiver):
            second = last[third][-2] if len(last[third]) > 1 else third
            first = last[second][-2] if len(last[second]) > 1 else second
            if last[second][-1] == third and last[first][-1] == second and len({first, second, third}) == 3:
                chosen.extend((first, second, third))
                for peer in (second, third):
                    world.at(now + 0.2, lambda peer=peer: world.kill(peer))  # type: ignore[misc]
                return [first]
        return []

    world = SumWorld(seed, killer)
    world.run()
    assert len(world.dead) == 3
    first = chosen[0]
    claims = [message for _, _, _, message in world.sent if isinstance(message, Claimed) and message.dead == first]
    assert max(claim.changes for claim in claims) == world.peers[first].value.changes
    assert any(isinstance(message, Witnessed) and message.peer == first for _, _, _, message in world.sent)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)


def test_contributions_are_said_at_a_beat() -> None:
    """Not when the last partner happens to answer, so that all that is said then is passed on together."""
    world = SumWorld(2)
    world.run()
    said = [at - TIMES.start for at, _, _, message in world.sent if isinstance(message, Contributes)]
    assert said
    assert max(at % TIMES.beat_s for at in said) < 0.4 * TIMES.beat_s


def test_without_neighbours_no_deadline_is_missed_again_and_again() -> None:
    """What a peer cannot do without neighbours does not keep it awake."""
    world = SumWorld(1)
    lonely = world.peers[world.ids[0]]
    tick, says_at = lonely.tick, TIMES.beat(TIMES.contribute_s + 0.1)

    def alone(now: float, neighbours: list[PeerId]) -> Outgoing:
        is_cut_off = says_at <= now < says_at + 3.0
        out = tick(now, [] if is_cut_off else neighbours)
        assert lonely.next_deadline > now
        return out

    lonely.tick = alone  # type: ignore[method-assign]
    world.run()
    assert lonely.own_id in lonely.contributors
    assert world.error_ratio() < CLEAN


def test_a_link_that_comes_and_goes_has_a_state_passed_on_once() -> None:
    world = SumWorld(1)
    passed: list[int] = []

    def flap() -> None:
        for one in world.ids:
            neighbours = [other for other in world.ids if other != one]
            out = [world.peers[one].link_lost(world.ids[7], neighbours, world.now) for _ in range(3)]
            passed.append(len(out[0]))
            assert not out[1] and not out[2]

    world.at(7.0, flap)
    world.run()
    assert 0 < sum(passed) < N_PEERS


@pytest.mark.slow
def test_a_graceful_stop_hands_everything_over() -> None:
    world = SumWorld(5)
    leaver, neighbour = world.ids[3], world.ids[4]
    world.at(5.0, lambda: world.send(leaver, world.peers[leaver].leave(neighbour)))
    world.run()
    assert leaver not in world.living
    assert any(isinstance(message, HandOver) for _, _, _, message in world.sent)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)


@pytest.mark.slow
def test_whoever_was_taken_for_dead_does_not_count_twice() -> None:
    world = SumWorld(9)
    alive = world.ids[6]

    def mistaken() -> None:
        for other in world.ids:
            if other != alive:
                world.send(other, world.peers[other].peer_died(alive, world.now))

    world.at(6.0, mistaken)
    world.run()
    assert world.peers[alive].value.weight < 0.1
    world.dead.add(alive)  # nobody listens to it any more
    assert world.error_ratio() < CLEAN


@pytest.mark.slow
def test_nothing_leaves_before_its_noise_is_in_and_the_ledger_written() -> None:
    """Whatever is killed, each transmitted value stands as far above the statistic as its masks do."""
    world = SumWorld(7, _at_messages(SumOffer, "both", after=(2.0, 3.0, 4.0))).run()
    first: dict[PeerId, SumOffer | SumAnswer] = {}
    for time, sender, _, message in world.sent:
        if isinstance(message, SumOffer | SumAnswer) and sender not in first:
            first[sender] = message
            assert time > TIMES.contribute_s
    assert set(first) <= set(world.ledger)
    for message in first.values():
        # At least 7 masks of one unit each.
        assert np.std(decode(message.share.value, COUNT)) > 1.5


@pytest.mark.slow
def test_masks_with_somebody_who_was_seen_are_never_taken_out() -> None:
    """Partners that lie about not having heard of a mask, as many as may collude: the mask stays."""
    world = SumWorld(13)
    victim = world.ids[8]
    world.at(5.0, lambda: world.kill(victim))
    world.at(11.9, lambda: _lie(world, victim))
    world.run()
    assert all(
        victim in world.peers[peer].masked_with for peer in world.peers[victim].masked_with if peer in world.living
    )
    assert world.error_ratio() < CLEAN


def _lie(world: SumWorld, victim: PeerId) -> None:
    for liar in sorted(world.peers[victim].masked_with)[:COLLUDING]:
        world.send(liar, [(None, Seen(frozenset(), frozenset({victim})))])


@pytest.mark.slow
def test_a_swarm_that_is_too_small_contributes_nothing() -> None:
    world = SumWorld(2)
    for peer in world.ids[:20]:
        world.dead.add(peer)
    world.run()
    assert not world.ledger
    assert all("take part" in world.peers[peer].sat_out for peer in world.living)


def test_a_void_sum_is_mixed_again_from_what_was_contributed() -> None:
    """Guardians put in what the dead had given, whoever had inherited it before."""
    world = SumWorld(4, is_void=True)
    for number, peer in enumerate(world.ids[::9]):
        world.at(3.0 + 5 * number, lambda peer=peer: world.kill(peer))  # type: ignore[misc]
    world.run()
    assert len(world.dead) == 8
    assert all(world.peers[peer].mixed_again for peer in world.living)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)
    assert sorted(world.ledger) == sorted(world.ids)


def test_whose_death_is_noticed_as_a_void_sum_ends_is_restored_when_it_is_mixed_again() -> None:
    """What was said of them just before the end is about states that nobody knows any more when all begin again."""
    world = SumWorld(4, is_void=True)
    dying = world.ids[::9]
    # Those whose clock is late say what they could restore when others have ended.
    for number, peer in enumerate(dying):
        world.at(TIMES.end_s - NOTICED_S + 0.03 * number, lambda peer=peer: world.kill(peer))  # type: ignore[misc]
    world.run()
    claims = [(at, message.dead) for at, _, _, message in world.sent if isinstance(message, Claimed)]
    assert {dead for at, dead in claims if TIMES.end_s < at < TIMES.phases[-2]} & set(dying)
    assert all(world.peers[peer].mixed_again for peer in world.living)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)


@pytest.mark.slow
def test_nobody_shows_anything_before_enough_have_contributed() -> None:
    """Enough enrol; then so many die that the noise of those who are left would not do."""
    world = SumWorld(12)
    for peer in world.ids[:6]:
        world.at(1.7, lambda peer=peer: world.kill(peer))  # type: ignore[misc]
    world.run()
    assert len(set(world.ledger)) == N_PEERS - 6
    assert not any(isinstance(message, SumOffer | Deposit) for _, _, _, message in world.sent)
    assert all("people have contributed" in world.peers[peer].sat_out for peer in world.living)
    assert world.total_weight() == 0


@pytest.mark.slow
def test_who_dies_before_its_guardians_have_its_contribution_in_clear_is_restored() -> None:
    """Its partners open what it had left with them, sealed. Nobody takes a mask out."""
    world = SumWorld(6, _at_messages(MaskNoted, "receiver", after=(0.0,))).run()
    (victim,) = world.dead
    assert victim in world.ledger
    opened = [message for _, _, _, message in world.sent if isinstance(message, Opened)]
    assert {message.owner for message in opened} == {victim}
    assert not any(isinstance(message, TakenOut) for _, _, _, message in world.sent)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)


@pytest.mark.parametrize("since", [TIMES.enrol_s, TIMES.contribute_s - 0.1])
def test_who_cannot_reach_a_partner_that_lives_gives_its_place_up_and_is_restored(since: float) -> None:
    """Both have a mask with the other, or both have none: either way all masks cancel, and neither's other partners are left with
    theirs.
    """
    world = SumWorld(6)
    one = world.ids[5]
    other = _partners(world, one)[0]
    world.at(since, lambda: world.deaf.update({(one, other), (other, one)}))
    world.run()
    opened = {message.owner for _, _, _, message in world.sent if isinstance(message, Opened)}
    # Whoever hears in time that the other has given its place up need not give up its own.
    assert opened <= {one, other}
    assert bool(opened) == (since > TIMES.enrol_s)
    world.dead |= opened  # nobody listens to them any more
    assert world.error_ratio() < CLEAN
    assert sorted(world.ledger) == world.ids
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)


@pytest.mark.parametrize("is_void", [False, True])
def test_who_has_declined_a_mask_puts_it_in_if_the_other_side_is_restored_with_it(is_void: bool) -> None:
    """What was sealed for guardians has the mask, though its owner would have taken it out, had it lived."""
    declines = SumWorld(6).ids[5]
    owner = _partners(SumWorld(6), declines)[0]
    world = SumWorld(6, _at_messages(NotMasked, "receiver", after=(0.0,)), is_void=is_void)
    world.deaf.add((owner, declines))  # so it never hears that the mask holds
    world.at(TIMES.contribute_s - 0.1, lambda: world.deaf.clear())
    world.run()
    assert world.dead == {owner}
    assert {message.owner for _, _, _, message in world.sent if isinstance(message, Opened)} == {owner}
    assert all(world.peers[peer].mixed_again == is_void for peer in world.living)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS, abs=1e-2)


@pytest.mark.parametrize("is_void", [False, True])
@pytest.mark.parametrize("victims", ["sender", "receiver", "both"])
def test_a_partner_of_who_sits_out_dies_as_it_hears_so(victims: str, is_void: bool) -> None:
    """It has masked with it, and is restored as it was sealed: the others take the mask out."""
    sits_out = SumWorld(6).ids[5]

    def killer(sender: PeerId, receiver: PeerId, message: SumMessage, now: float) -> list[PeerId]:
        if world.dead or not isinstance(message, Withdrawn) or receiver not in _partners(world, sits_out):
            return []
        return {"sender": [sender], "receiver": [receiver], "both": [sender, receiver]}[victims]

    world = SumWorld(6, killer, is_void=is_void, full=frozenset((5,)))
    world.run()
    assert len(world.dead) == 1 + (victims == "both")
    opened = {message.owner for _, _, _, message in world.sent if isinstance(message, Opened)}
    assert opened == world.dead - {sits_out}
    assert all(world.peers[peer].mixed_again == is_void for peer in world.living)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS - 1, abs=1e-2)


@pytest.mark.parametrize(("dies_s", "is_sealed"), [(None, False), (1.0, True), (3.0, False), (7.0, False)])
def test_who_sits_out_and_cannot_be_reached_keeps_nobody_waiting(dies_s: float | None, is_sealed: bool) -> None:
    """A partner has masked with it, and what it tells it never arrives. It does not wait: else it would give its place up, and be
    restored as it was sealed, with a mask of which the other side knows nothing. Nor is that taken out for it again when it dies.
    If it dies before it has shown anything it is restored so all the same, and the others take the mask out.
    """
    sits_out = SumWorld(6).ids[5]
    owner = _partners(SumWorld(6), sits_out)[0]
    world = SumWorld(6, full=frozenset((5,)))
    world.at(TIMES.contribute_s - 0.1, lambda: world.deaf.add((owner, sits_out)))
    if dies_s is not None:
        world.at(TIMES.contribute_s + dies_s, lambda: world.kill(owner))
    world.run()
    told = {(message.owner, message.absent) for *_, message in world.sent if isinstance(message, TakenOut)}
    assert (owner, sits_out) in told
    assert any(isinstance(message, Opened) for *_, message in world.sent) == is_sealed
    assert not any(world.peers[peer].mixed_again for peer in world.living)
    assert world.error_ratio() < CLEAN
    assert world.total_weight() == pytest.approx(N_PEERS - 1, abs=1e-2)


@pytest.mark.slow
def test_a_box_is_not_opened_while_its_owner_can_be_restored_otherwise() -> None:
    world = SumWorld(8)
    world.at(6.0, lambda: world.kill(world.ids[3]))
    world.run()
    assert not any(isinstance(message, Opened) for _, _, _, message in world.sent)
    assert not world.peers[world.ids[0]].mixed_again


@pytest.mark.slow
def test_what_is_lost_for_good_can_be_noticed() -> None:
    """Half of the swarm at once is more than witnesses can mend."""
    world = SumWorld(4)
    for peer in world.ids[::2]:
        world.at(4.0, lambda peer=peer: world.kill(peer))  # type: ignore[misc]
    world.run()
    assert world.error_ratio() > 3
    assert PLAN.mask_std > 0
    assert TIMES.notice_s > NOTICED_S
