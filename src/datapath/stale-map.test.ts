import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { bpfCommands, buildBpf } from '../../deploy/build.ts';
import { packageRoot } from '../package-root.ts';
import { parse } from './address.ts';
import { config } from './config.fixture.ts';
import { loadDatapath } from './object.ts';

const flow = (port: number) => ({
  saddr: parse('10.1.1.2'),
  daddr: parse('198.51.100.7'),
  sport: port,
  dport: 443,
  cluster_id: 0,
  proto: 6,
  pad: 0,
});

describe('a version with another layout of flows', () => {
  let folder: string;
  let objectPath: string;
  let otherPath: string;
  before(async () => {
    objectPath = await buildBpf();
    folder = mkdtempSync(join(tmpdir(), 'isthmus-stale-'));
    execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
    // The version before: a field less at the end, one more at the beginning, another size of one.
    const sources = mkdtempSync(join(tmpdir(), 'isthmus-stale-sources-'));
    cpSync(join(packageRoot, 'bpf'), sources, { recursive: true });
    const types = join(sources, 'types.h');
    writeFileSync(
      types,
      readFileSync(types, 'utf8')
        .replace('struct conntrack_value {', 'struct conntrack_value {\n\t__u32 generation;')
        .replace('struct nat_value {', 'struct nat_value {\n\t__u64 bytes;'),
    );
    otherPath = join(sources, 'other.bpf.o');
    for (const [command, ...parameters] of bpfCommands(sources, otherPath))
      await promisify(execFile)(command!, parameters, { cwd: sources });
  });
  after(() => {
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  });

  it('takes the flows of the one before over, there and back', async () => {
    type Value = { expires: number; identity: number; flags: number };
    const read = (port: number, datapath: ReturnType<typeof loadDatapath>) => {
      const { expires, identity, flags } = datapath.map<object, Value>('conntrack').get(flow(port))!;
      return { expires, identity, flags };
    };
    {
      using before = loadDatapath({ objectPath: otherPath, bpffs: join(folder, 'a'), config });
      const conntrack = before.map('conntrack');
      for (let port = 1; port <= 10_000; port++)
        conntrack.set(flow(port), {
          generation: 9,
          expires: 1_000_000 + port,
          identity: 65_800,
          service_id: 3,
          flags: 8,
        });
      before.map('nat').set(flow(1), {
        bytes: 5n,
        to: flow(2),
        expires: 77,
        backend_id: 4,
        service_id: 3,
        flags: 4,
      });
    }
    {
      using upgraded = loadDatapath({ objectPath, bpffs: join(folder, 'a'), config });
      assert.equal(upgraded.map('conntrack').get(flow(1)), undefined);
      // What a new program wrote meanwhile is newer than what is taken over.
      upgraded.map('conntrack').set(flow(7), { expires: 1, identity: 2, service_id: 0, flags: 1 });
      assert.deepEqual(
        (await upgraded.takeOverFlows()).toSorted((a, b) => (a.map < b.map ? -1 : 1)),
        [
          { map: 'conntrack', copied: 9_999, left: 0 },
          { map: 'nat', copied: 1, left: 0 },
        ],
      );
      assert.deepEqual(read(5, upgraded), { expires: 1_000_005, identity: 65_800, flags: 8 });
      assert.deepEqual(read(7, upgraded), { expires: 1, identity: 2, flags: 1 });
      const { to, backend_id } = upgraded
        .map<object, { to: object; backend_id: number }>('nat')
        .get(flow(1))!;
      assert.deepEqual([to, backend_id], [flow(2), 4]);
      assert.deepEqual(
        (await upgraded.takeOverFlows()).map(each => each.copied),
        [0, 0],
      );
      upgraded.unpinStaleMaps();
      assert.deepEqual(await upgraded.takeOverFlows(), []);
    }
    using downgraded = loadDatapath({ objectPath: otherPath, bpffs: join(folder, 'a'), config });
    await downgraded.takeOverFlows();
    assert.deepEqual(read(5, downgraded), { expires: 1_000_005, identity: 65_800, flags: 8 });
  });

  it('a map of another size is one of another layout', async () => {
    {
      using before = loadDatapath({ objectPath, bpffs: join(folder, 'b'), config });
      before.map('conntrack').set(flow(1), { expires: 5, identity: 2, service_id: 0, flags: 1 });
    }
    using larger = loadDatapath({
      objectPath,
      bpffs: join(folder, 'b'),
      config,
      sizes: { conntrack: 200_000 },
    });
    assert.deepEqual(await larger.takeOverFlows(), [{ map: 'conntrack', copied: 1, left: 0 }]);
  });
});
