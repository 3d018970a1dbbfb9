import { upgradeIsthmus } from '../../src/cli/install.ts';
import { up } from '../../src/lab/lab.ts';
import { openLab } from '../../src/lab/open-lab.ts';
import { kindClusters } from '../kind-clusters.ts';
import { runLabSuite } from '../lab-suite.ts';

await runLabSuite({
  name: 'mcs',
  folder: import.meta.dirname,
  about: 'The Multi-Cluster Services API on two joined clusters, where it is switched on.',
  choices: [
    {
      option: 'mirror',
      values: ['off', 'on'],
      help: 'each cluster reads the other through its mirror (default off)',
    },
  ],
  make: (name, { report, signal }) =>
    up({
      name,
      config: kindClusters({ name: 'us' }, { name: 'eu' }),
      install: true,
      join: true,
      report,
      signal,
    }),
  async prepare(name, { chosen, report, signal }) {
    for (const { context, kubeconfig } of openLab(name).clusters)
      await upgradeIsthmus({
        cluster: { context, kubeconfig, namespace: 'kube-system' },
        values: {
          set: [
            'clustermesh.mcsapi.enabled=true',
            'clustermesh.mcsapi.corednsAutoConfigure.enabled=true',
            `clustermesh.apiserver.kvstoremesh.enabled=${chosen.mirror === 'on'}`,
          ],
        },
        report,
        signal,
      });
  },
});
