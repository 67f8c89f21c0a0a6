// Lists what is in the container image, as CycloneDX: npm's bill of our dependencies with Debian's packages added.
// Usage: node tools/software-bill.ts NPM_SBOM.json DPKG_STATUS >BILL.json
import { readFileSync } from 'node:fs';
import { argv, exit, stderr, stdout } from 'node:process';

interface Component {
  type: 'library';
  name: string;
  version: string;
  purl: string;
  'bom-ref': string;
}

const [, , npmBill, dpkgStatus] = argv;
if (npmBill === undefined || dpkgStatus === undefined) {
  stderr.write('usage: software-bill.ts NPM_SBOM.json DPKG_STATUS\n');
  exit(2);
}

/** The packages that a file like /var/lib/dpkg/status says are installed. */
function debianComponents(status: string): Component[] {
  const field = (stanza: string, name: string): string =>
    new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
  return status
    .split('\n\n')
    .filter((stanza) => field(stanza, 'Status').endsWith(' installed'))
    .map((stanza) => {
      const [name, version, architecture] = ['Package', 'Version', 'Architecture'].map((each) =>
        field(stanza, each),
      );
      const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version ?? '')}?arch=${architecture}`;
      return { type: 'library', name: name ?? '', version: version ?? '', purl, 'bom-ref': purl };
    });
}

const bill = JSON.parse(readFileSync(npmBill, 'utf8')) as { components: Component[] };
bill.components.push(...debianComponents(readFileSync(dpkgStatus, 'utf8')));
stdout.write(`${JSON.stringify(bill, null, 1)}\n`);
