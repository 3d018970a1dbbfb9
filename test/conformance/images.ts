import { join } from 'node:path';
import * as z from 'zod';
import { type Archive, type Image, type Layer, writeArchive } from '../../deploy/image/archive.ts';
import { cacheFolder } from '../../src/cache.ts';
import { ensureBinaries, type Report } from '../../src/lab/binaries.ts';
import { goCommand, goEnvironment } from '../../src/lab/go-command.ts';
import {
  agnhostLayer,
  corednsLayer,
  executable,
  labLayers,
  nginxSettings,
} from '../../src/lab/image-contents.ts';
import { run } from '../../src/lab/process.ts';
import { packageRoot } from '../../src/package-root.ts';

const registry = 'registry.k8s.io/e2e-test-images';

/**
 * The images that specs of the network ask for, beside those that a lab has: the same programs under the same names.
 * Where they differ from the published ones: Debian's userland instead of Alpine's and of Debian 8's; httpd is
 * nginx, because specs ask it only for an answer on port 80.
 */
export async function ensureE2eImages(report: Report): Promise<Archive> {
  const wanted = ['agnhost', 'coredns', 'regression-issue-74839'] as const;
  const binaries = await ensureBinaries(wanted, { report });
  return writeArchive(await e2eImages(binaries, report), { folder: cacheFolder('images'), label: 'e2e' });
}

async function e2eImages(
  binaries: Readonly<Record<'agnhost' | 'coredns' | 'regression-issue-74839', string>>,
  report: Report,
): Promise<Image[]> {
  const { userland, shell, networkTools, nginx } = await labLayers();
  const tools = [...userland, shell, networkTools];
  return [
    {
      names: [`${registry}/agnhost:2.56`],
      layers: [
        ...tools,
        corednsLayer(binaries.coredns),
        await porterLayer(report),
        agnhostLayer(binaries.agnhost),
      ],
      settings: { entrypoint: ['/agnhost'], command: ['pause'] },
    },
    {
      names: [`${registry}/busybox:1.37.0-1`],
      layers: userland,
      settings: { command: ['sh'] },
    },
    {
      names: [`${registry}/jessie-dnsutils:1.7`],
      layers: tools,
      settings: { command: ['sh'] },
    },
    {
      names: ['nginx:1.14-4', 'nginx:1.15-4', 'httpd:2.4.38-4', 'httpd:2.4.39-4'].map(
        name => `${registry}/${name}`,
      ),
      layers: [...userland, shell, nginx],
      settings: nginxSettings,
    },
    {
      names: [`${registry}/regression-issue-74839:1.2`],
      layers: [...userland, [executable('/main', binaries['regression-issue-74839'])]],
      settings: { entrypoint: ['/main'] },
    },
  ];
}

const downloaded = z.object({ Dir: z.string() });

/** The certificate that `agnhost porter` serves TLS with, as Kubernetes' sources have it. */
async function porterLayer(report: Report): Promise<Layer> {
  const output = await run(await goCommand(report), ['mod', 'download', '-json', 'k8s.io/kubernetes'], {
    cwd: join(packageRoot, 'deploy/kubernetes'),
    env: goEnvironment(),
  });
  const { Dir } = downloaded.parse(JSON.parse(output));
  return ['localhost.crt', 'localhost.key'].map(name => ({
    type: 'file',
    path: `/${name}`,
    content: { file: join(Dir, 'test/images/agnhost/porter', name) },
  }));
}
