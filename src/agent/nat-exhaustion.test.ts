import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NatExhaustionNews } from './nat-exhaustion.ts';

test('the log hears that ports to masquerade with ran out: how often since it heard last, and not of other drops', () => {
  const counts = (egress: number, other: number) => [
    { reason: 'drop_no_nat_port', direction: 'egress' as const, packets: egress, bytes: 0 },
    { reason: 'drop_no_nat_port', direction: 'ingress' as const, packets: 2, bytes: 0 },
    { reason: 'drop_malformed_packet', direction: 'egress' as const, packets: other, bytes: 0 },
  ];
  const news = new NatExhaustionNews(counts(10, 0));
  assert.equal(news.of(counts(10, 5)), undefined, 'what an earlier agent has told');
  assert.match(news.of(counts(17, 5))!, /^7 packets to begin a flow dropped \(drop_no_nat_port\)/);
  assert.equal(news.of(counts(17, 6)), undefined);
  assert.match(news.of(counts(18, 6))!, /^1 packet to/);
  assert.equal(news.of([]), undefined, 'new counters begin at nothing');
  assert.match(news.of(counts(1, 0))!, /^3 packets/);
});
