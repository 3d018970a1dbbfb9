import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { enterFreshNetns, needsRoot, podNetns } from '../../test/netns.ts';
import { EchoSocket } from './echo-socket.ts';

const sh = (...command: string[]): string =>
  execFileSync(command[0]!, command.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** Everything that comes until `count` answers are there. */
async function answers(socket: EchoSocket, count: number): Promise<number[]> {
  const found: number[] = [];
  const until = performance.now() + 10_000;
  while (found.length < count && performance.now() < until) {
    found.push(...socket.poll());
    await sleep(5);
  }
  return found.sort((a, b) => a - b);
}

test('each address that is there answers with the number it was asked with', needsRoot, async () => {
  enterFreshNetns();
  await using peer = await podNetns();
  sh('ip', 'link', 'set', 'lo', 'up');
  sh('ip', 'link', 'add', 'here', 'type', 'veth', 'peer', 'name', 'there');
  sh('ip', 'link', 'set', 'there', 'netns', String(peer.pid));
  const inside = (...args: string[]): string => sh('nsenter', `--net=${peer.path}`, 'ip', ...args);
  for (const [run, device, host] of [
    [(...args: string[]) => sh('ip', ...args), 'here', '1'],
    [inside, 'there', '2'],
  ] as const) {
    run('addr', 'add', `192.0.2.${host}/24`, 'dev', device);
    run('addr', 'add', `2001:db8::${host}/64`, 'dev', device, 'nodad');
    run('link', 'set', device, 'up');
  }
  using socket = new EchoSocket();
  using other = new EchoSocket();

  // Two processes of a node ask at once: each hears its own.
  assert.equal(socket.ask('192.0.2.2', 0xfffffffe), undefined);
  assert.equal(other.ask('192.0.2.2', 7), undefined);
  assert.equal(socket.ask('127.0.0.1', 3), undefined);
  assert.equal(socket.ask('2001:db8::2', 4), undefined);
  assert.equal(socket.ask('192.0.2.77', 5), undefined, 'nobody is there, and nothing waits for that');
  assert.deepEqual(await answers(socket, 3), [3, 4, 0xfffffffe]);
  assert.deepEqual(await answers(other, 1), [7]);

  assert.equal(socket.ask('198.51.100.1', 6), 'ENETUNREACH');
  assert.deepEqual(socket.poll(), []);

  inside('link', 'set', 'there', 'down');
  assert.deepEqual(socket.poll(), []);
  inside('link', 'set', 'there', 'up');
  socket.ask('192.0.2.2', 8);
  assert.deepEqual(await answers(socket, 1), [8], 'it is back');
});
