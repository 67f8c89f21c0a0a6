// Commands of the clients that people use, for guests that have them: each with the secret of the variable API_KEY.

const PYTHON = (url: string) =>
  `python3 -c 'import os, urllib.request as u; print(u.urlopen(u.Request("${url}", headers={"Authorization": "Bearer " + os.environ["API_KEY"]})).read().decode())'`;
const REQUESTS = (url: string) =>
  `python3 -c 'import os, requests; print(requests.get("${url}", headers={"Authorization": "Bearer " + os.environ["API_KEY"]}).text)'`;
const FETCH = (url: string) =>
  `node -e 'fetch("${url}", { headers: { authorization: "Bearer " + process.env.API_KEY } }).then((answer) => answer.text()).then(console.log)'`;
export const BEARER = '-H "Authorization: Bearer $API_KEY"';

export const hostOf = (url: string): string => new URL(url).host;

/** Each prints what the server says of a request that carries the secret in a header. */
export const CLIENTS: Readonly<Record<string, (url: string) => string>> = {
  'curl over HTTP/2': (url) => `curl -sS --http2 ${BEARER} ${url}`,
  'curl over HTTP/1.1': (url) => `curl -sS --http1.1 ${BEARER} ${url}`,
  wget: (url) => `wget -q -O - --header "Authorization: Bearer $API_KEY" ${url}`,
  "Python's urllib": PYTHON,
  "Python's requests": REQUESTS,
  "Node's fetch": FETCH,
};

/** Each prints what the mirror at the path has for it; `user` is who it signs in as, empty for nobody. */
export const FETCHERS: Readonly<Record<string, (host: string, path: string, user: string) => string>> = {
  git: (host, path, user) =>
    `rm -rf /tmp/demo; git clone -q https://${user}${host}${path}/git/demo.git /tmp/demo && cat /tmp/demo/text`,
  pip: (host, path, user) =>
    `rm -rf /tmp/pip; pip install -q --no-deps --no-cache-dir --disable-pip-version-check --break-system-packages --target /tmp/pip --index-url https://${user}${host}${path}/pip/simple/ demo && PYTHONPATH=/tmp/pip python3 -m demo`,
  apt: (host, path, user) => {
    const [login = '', password = ''] = user.replace('@', '').split(':');
    const access =
      login === '' ? '' : `echo "machine ${host} login ${login} password ${password}" > /etc/apt/auth.conf; `;
    const apt = 'apt-get -qq -o Dir::Etc::sourcelist=/tmp/demo.list -o Dir::Etc::sourceparts=-';
    return `${access}dpkg --purge demo 2>/dev/null; rm -rf /var/lib/apt/lists; echo 'deb [trusted=yes] https://${host}${path}/apt ./' > /tmp/demo.list; ${apt} update && ${apt} install -y demo >/dev/null && cat /usr/share/demo/text`;
  },
};
