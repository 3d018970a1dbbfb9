import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cgroupFolders, cgroupLayout, isUnified } from './cgroup.ts';

test('a unified machine', () => {
  const layout = cgroupLayout(
    '24 22 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n',
  );
  assert.deepEqual(layout, { v1: [], v2: '/sys/fs/cgroup' });
  assert.ok(isUnified(layout));
  assert.deepEqual(cgroupFolders(layout, 'a/b'), ['/sys/fs/cgroup/a/b']);
});

test('a hybrid machine, with controllers that share a hierarchy', () => {
  const layout = cgroupLayout(
    [
      '30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs ro,mode=755',
      '31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate',
      '32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd',
      '36 30 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
      '40 24 0:40 / /mnt rw - cgroup2 cgroup2 rw',
    ].join('\n'),
  );
  assert.deepEqual(layout, {
    v1: [
      { directory: 'systemd', mountOptions: 'none,name=systemd' },
      { directory: 'cpu,cpuacct', mountOptions: 'cpu,cpuacct' },
    ],
    v2: '/sys/fs/cgroup/unified',
  });
  assert.ok(!isUnified(layout));
});

test('a machine without cgroup2 is told what to do', () => {
  assert.throws(
    () => cgroupLayout('36 30 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n'),
    /no cgroup2/,
  );
});
