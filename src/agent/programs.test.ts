import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointPrograms } from './endpoints.ts';
import { deferPrograms, parseMounts } from './programs.ts';

test('mounts: point and type of each line, blanks decoded', () => {
  const text = [
    '36 35 98:0 / /sys/fs/cgroup rw,noatime shared:1 - tmpfs tmpfs rw',
    '37 36 98:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    '38 36 98:2 / /mnt/with\\040blank rw - ext4 /dev/sda rw',
    '',
  ].join('\n');
  assert.deepEqual(parseMounts(text), [
    { path: '/sys/fs/cgroup', type: 'tmpfs' },
    { path: '/sys/fs/cgroup/unified', type: 'cgroup2' },
    { path: '/mnt/with blank', type: 'ext4' },
  ]);
});

test('programs of pods wait for the release; one whose device is gone does not stop the others', () => {
  const attached: string[] = [];
  const datapath: EndpointPrograms = {
    attachDevice(_program, ifindex, _direction, pin) {
      if (ifindex === 2) throw new Error('no such device');
      attached.push(pin);
    },
    attachNewDevice: async () => {},
    detach: () => {},
    pinned: () => [],
  };
  const programs = deferPrograms(datapath);
  for (const [ifindex, pin] of [
    [1, 'a'],
    [2, 'b'],
    [3, 'c'],
    [4, 'gone'],
  ] as const)
    programs.attachDevice('from_pod', ifindex, 'ingress', pin);
  programs.detach('gone');
  assert.deepEqual(attached, []);
  const failed: string[] = [];
  programs.release(pin => failed.push(pin));
  assert.deepEqual([attached, failed], [['a', 'c'], ['b']]);
  programs.attachDevice('from_pod', 5, 'ingress', 'later');
  assert.deepEqual(attached, ['a', 'c', 'later']);
});
