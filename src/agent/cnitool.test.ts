import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { enterFreshNetns, needsRoot, podNetns } from '../../test/netns.ts';
import { ensureBinaries } from '../lab/binaries.ts';
import { builtPlugin, startAgent } from './cni-server.fixture.ts';

/** The specification's own client drives the plugin. */
describe('cnitool', needsRoot, () => {
  let cnitool: string;
  before(async () => {
    ({ cnitool } = await ensureBinaries(['cnitool'], { report: line => console.log(line) }));
    enterFreshNetns();
  });

  it('adds, checks, collects and deletes with every version that has these', async t => {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-cnitool-'));
    t.after(() => rmSync(folder, { recursive: true }));
    copyFileSync(await builtPlugin(), join(folder, 'isthmus-cni'));
    let problem: string | undefined;
    await using agent = await startAgent(folder, { problem: () => problem });
    const run = (command: string, version: string, netns: string): Promise<{ code: number; text: string }> =>
      new Promise(resolve => {
        const configFolder = join(folder, version);
        mkdirSync(configFolder, { recursive: true });
        const plugins = [{ type: 'isthmus-cni', capabilities: { portMappings: true } }];
        writeFileSync(
          join(configFolder, '05-isthmus.conflist'),
          JSON.stringify({ cniVersion: version, name: 'isthmus', plugins }),
        );
        const env = {
          CNI_PATH: folder,
          NETCONFPATH: configFolder,
          CAP_ARGS: '{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}',
          CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web',
          ISTHMUS_CNI_SOCK: join(folder, 'cni.sock'),
          ISTHMUS_CNI_RELEASES: join(folder, 'cni-release'),
        };
        execFile(cnitool, [command, 'isthmus', netns], { env }, (error, stdout, stderr) =>
          resolve({ code: error ? 1 : 0, text: stdout + stderr }),
        );
      });
    const succeeds = async (command: string, version: string, netns: string): Promise<string> => {
      const { code, text } = await run(command, version, netns);
      assert.equal(code, 0, `${command} ${version}: ${text}`);
      return text;
    };
    for (const version of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
      await using pod = await podNetns();
      const result = JSON.parse(await succeeds('add', version, pod.path));
      assert.match(result.ips[0].address, /^10\.1\.0\.\d+\/32$/);
      const endpoint = [...agent.endpoints.table.values()][0]!;
      assert.equal(endpoint.podName, 'web');
      assert.equal(endpoint.portMappings[0]!.hostPort, 8080);
      if (version !== '0.3.1') await succeeds('check', version, pod.path);
      if (version === '1.1.0') {
        await succeeds('status', version, pod.path);
        problem = 'no uplink';
        const { code, text } = await run('status', version, pod.path);
        assert.deepEqual([code, /no uplink/.test(text)], [1, true]);
        problem = undefined;
        await succeeds('gc', version, pod.path);
      } else await succeeds('del', version, pod.path);
      assert.equal(agent.endpoints.table.size, 0);
      await succeeds('del', version, pod.path);
    }
  });
});
