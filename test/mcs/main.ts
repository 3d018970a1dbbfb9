import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { upgradeIsthmus } from '../../src/cli/install.ts';
import { parseConfig } from '../../src/lab/config.ts';
import { down, up } from '../../src/lab/lab.ts';
import { openLab } from '../../src/lab/open-lab.ts';
import { labNames } from '../../src/lab/state.ts';

const usage = `usage: npm run mcs [-- OPTION…] [FILE…]

Runs the tests of test/mcs: the Multi-Cluster Services API on two joined clusters of a lab.

  --lab NAME   name of the lab (default mcs); one that is up is used, with MCS-API switched on
  --keep       leave the lab up
`;

/** `npm run mcs`: makes the lab, runs the test files one after another, takes the lab down. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      lab: { type: 'string', default: 'mcs' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const name = values.lab;
  process.env.KUBECONFIG ??= `/tmp/isthmus-${name}.kubeconfig`;
  const report = (line: string): void => console.error(line);
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  const { signal } = interrupt;
  const files = positionals.length ? positionals : globSync(join(import.meta.dirname, '*.test.ts')).sort();
  try {
    if (!labNames().includes(name)) {
      const config = parseConfig([{ path: 'mcs', text: ['us', 'eu'].map(kindDocument).join('\n---\n') }]);
      await up({ name, config, install: true, join: true, images: [], report, signal });
    }
    for (const { context, kubeconfig } of openLab(name).clusters)
      await upgradeIsthmus({
        cluster: { context, kubeconfig, namespace: 'kube-system' },
        values: {
          set: ['clustermesh.mcsapi.enabled=true', 'clustermesh.mcsapi.corednsAutoConfigure.enabled=true'],
        },
        report,
        signal,
      });
    const args = ['--test', '--test-concurrency=1', '--test-timeout=600000', ...files];
    const tests = spawn(process.execPath, args, {
      stdio: 'inherit',
      env: { ...process.env, ISTHMUS_TEST_LAB: name, ISTHMUS_TEST_ATTACH: '1' },
      signal,
    });
    const [code] = (await once(tests, 'exit')) as [number | null];
    return code ?? 1;
  } finally {
    if (!values.keep) await down({ name, report });
  }
}

function kindDocument(name: string): string {
  return JSON.stringify({
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    kind: 'Cluster',
    name,
    nodes: [{ role: 'control-plane' }],
  });
}

process.exitCode = await main();
