// Keeps the numbers of the page fresh. All words come from the gateway, in the page's language.

const MAX_POINTS = 300; // five minutes
const HEIGHT = 60;
const WIDTH = 300;
const AGAIN_MS = 15000;

const at = (id) => document.getElementById(id);
const points = [];

const put = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const line = (name, most) => {
  const step = WIDTH / (MAX_POINTS - 1);
  const first = MAX_POINTS - points.length;
  const place = (point, index) =>
    `${((first + index) * step).toFixed(1)},${(HEIGHT - 1 - (point[name] / most) * (HEIGHT - 2)).toFixed(1)}`;
  document.querySelector(`#graph .${name}`).setAttribute("points", points.map(place).join(" "));
};

const draw = () => {
  const most = Math.max(1, ...points.map((point) => Math.max(point.up, point.down)));
  line("down", most);
  line("up", most);
};

const show = (event) => {
  document.body.dataset.state = event.state;
  put(at("state"), event.sentence);
  put(at("price").firstElementChild, event.price);
  for (const { id, value, said } of event.fields) {
    at(id).value = value;
    put(at(id), said);
  }
  at("stop").hidden = ["offline", "closed"].includes(event.state);
  at("lost").hidden = true;
  points.push({ up: event.up, down: event.down });
  if (points.length > MAX_POINTS) points.shift();
  if (!document.hidden) draw();
};

const listen = () => {
  const stream = new EventSource(document.body.dataset.live);
  stream.onmessage = ({ data }) => show(JSON.parse(data));
  stream.onerror = () => {
    at("lost").hidden = false;
    // The browser tries again itself unless it was refused.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  };
};

at("graph").hidden = false;
listen();

// Paying from the page takes more code than all the rest: it comes to who asks for it, or has a channel.
const load = at("pay-load");
if (load) {
  const pay = () => {
    load.hidden = true;
    import("/pay.js");
  };
  load.onclick = pay;
  load.hidden = false;
  try {
    if (localStorage.getItem("bitmesh-channel")) pay();
  } catch {
    // This browser keeps nothing; the page's script says so.
  }
}
